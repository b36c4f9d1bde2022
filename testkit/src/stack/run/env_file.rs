//! `.run/env`: where everything is, for shells (`set -a; . .run/env`) and scripts. Mode 600, it holds passwords.

use std::borrow::Cow;

use anyhow::Result;

use crate::services::files;
use crate::stack::Stack;

pub(super) fn write(stack: &Stack, key: &str) -> Result<()> {
    let variables = [
        ("WARREN_URL", stack.api_url().to_owned()),
        ("WARREN_API_KEY", key.to_owned()),
        ("WARREN_METRICS_URLS", stack.metrics_urls().join(",")),
        ("WARREN_INBOX_URL", stack.inbox_url().to_owned()),
        ("RABBITMQ_MANAGEMENT_URL", stack.rabbitmq.management_url()),
        ("DATABASE_URL", stack.postgres.url()),
        ("AMQP_URL", stack.amqp_url()),
    ];
    let lines: Vec<String> = variables
        .iter()
        .map(|(name, value)| format!("{name}={}\n", quoted(value)))
        .collect();
    files::write(&stack.folder().join("env"), 0o600, &lines.concat())
}

/// As it is where a shell would take it so, else in single quotes.
fn quoted(value: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%,+".contains(c);
    if !value.is_empty() && value.chars().all(is_plain) {
        Cow::Borrowed(value)
    } else {
        Cow::Owned(format!("'{}'", value.replace('\'', r"'\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn quotes_what_a_shell_would_read_otherwise() {
        assert_eq!(
            quoted("http://u:p@127.0.0.1:15672"),
            "http://u:p@127.0.0.1:15672"
        );
        assert_eq!(quoted("postgres://h/d?a=1&b=2"), "'postgres://h/d?a=1&b=2'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
