//! Replies of the relay and what they mean.
//!
//! The first digit decides (RFC 5321, 4.2.1): a client must not depend on more. The exceptions are few
//! and lie where the reply is not about the mail but about us.

mod text;

pub(super) use self::text::clean;

use super::error::{Class, SendError, code};
use std::time::Duration;

/// Greylisters commonly want 5 minutes (RFC 6647, 2.1 and 3); a try before that may start their clock anew.
pub(super) const GREYLIST_WAIT: Duration = Duration::from_secs(300);

/// A wrong password or certificate is mended by a person, not by the next second.
pub(super) const SETUP_WAIT: Duration = Duration::from_secs(300);

/// Where in the dialogue something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// TCP, greeting, EHLO.
    Connect,
    Tls,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// From the first byte of the mail to the reply to the final dot.
    Body,
    Reset,
}

impl Phase {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "the greeting and EHLO",
            Self::Tls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL FROM",
            Self::Rcpt => "RCPT TO",
            Self::Data => "DATA",
            Self::Body => "the mail itself",
            Self::Reset => "RSET",
        }
    }
}

/// Gives a negative reply its class.
pub(super) fn classify(phase: Phase, smtp_code: u16, text: &str) -> SendError {
    let enhanced = enhanced(smtp_code, text);
    let (class, code) = class(phase, smtp_code, enhanced, text);
    let words = enhanced.and_then(|word| text.trim_start().strip_prefix(word));
    SendError {
        smtp_code: Some(smtp_code),
        enhanced: enhanced.map(str::to_owned),
        names_recipient: matches!(phase, Phase::Rcpt | Phase::Data | Phase::Body),
        ..SendError::new(class, code, clean(words.unwrap_or(text)))
    }
}

fn class(
    phase: Phase,
    smtp_code: u16,
    enhanced: Option<&str>,
    text: &str,
) -> (Class, &'static str) {
    match (phase, smtp_code) {
        (_, 421) => (Class::Retry, code::SERVICE_CLOSING),
        (Phase::Auth, 500..) | (_, 530 | 534 | 535 | 538) => {
            (Class::RetryAfter(SETUP_WAIT), code::AUTH_FAILED)
        }
        (Phase::Auth, _) => (Class::Retry, code::AUTH_FAILED),
        (Phase::Tls, _) => (Class::Retry, code::TLS_FAILED),
        (Phase::Connect | Phase::Reset, _) => (Class::Retry, code::RELAY_REFUSED),
        (_, 450 | 451) if is_greylisting(enhanced, text) => {
            (Class::RetryAfter(GREYLIST_WAIT), code::GREYLISTED)
        }
        (_, ..500) => (Class::Retry, code::TEMPORARY),
        _ => (Class::Fail, code::PERMANENT),
    }
}

fn is_greylisting(enhanced: Option<&str>, text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    enhanced == Some("4.7.1")
        || ["greylist", "graylist", "grey-list", "gray-list"]
            .iter()
            .any(|word| text.contains(word))
}

/// The first word, if it is an enhanced status code whose class agrees with the reply's (RFC 2034, 4).
fn enhanced(smtp_code: u16, text: &str) -> Option<&str> {
    let word = text.split_whitespace().next()?;
    let mut parts = word.split('.');
    let class = parts.next()?.parse::<u16>().ok()?;
    let number = |part: Option<&str>| {
        part.is_some_and(|p| (1..=3).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()))
    };
    let well_formed = number(parts.next()) && number(parts.next()) && parts.next().is_none();
    (well_formed && class == smtp_code / 100).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn the_table() {
        use Class::{Fail, Retry, RetryAfter};
        use Phase::{Auth, Body, Connect, Data, Mail, Rcpt, Tls};
        for (phase, smtp_code, text, class, code, enhanced) in [
            (
                Connect,
                421,
                "4.3.2 shutting down",
                Retry,
                "smtp_421",
                Some("4.3.2"),
            ),
            (
                Connect,
                554,
                "no service",
                Retry,
                "smtp_relay_refused",
                None,
            ),
            (
                Tls,
                454,
                "4.7.0 not now",
                Retry,
                "smtp_tls_failed",
                Some("4.7.0"),
            ),
            (
                Auth,
                535,
                "5.7.8 bad credentials",
                RetryAfter(SETUP_WAIT),
                "smtp_auth_failed",
                Some("5.7.8"),
            ),
            (
                Auth,
                504,
                "unknown mechanism",
                RetryAfter(SETUP_WAIT),
                "smtp_auth_failed",
                None,
            ),
            (
                Auth,
                454,
                "4.7.0 temporary",
                Retry,
                "smtp_auth_failed",
                Some("4.7.0"),
            ),
            (
                Mail,
                530,
                "5.7.0 authenticate first",
                RetryAfter(SETUP_WAIT),
                "smtp_auth_failed",
                Some("5.7.0"),
            ),
            (
                Mail,
                552,
                "5.3.4 too big",
                Fail,
                "smtp_permanent",
                Some("5.3.4"),
            ),
            (Rcpt, 421, "bye", Retry, "smtp_421", None),
            (
                Rcpt,
                450,
                "4.2.1 mailbox busy",
                Retry,
                "smtp_temporary",
                Some("4.2.1"),
            ),
            (
                Rcpt,
                450,
                "4.2.0 Greylisted, see x",
                RetryAfter(GREYLIST_WAIT),
                "smtp_greylisted",
                Some("4.2.0"),
            ),
            (
                Rcpt,
                451,
                "4.7.1 try again later",
                RetryAfter(GREYLIST_WAIT),
                "smtp_greylisted",
                Some("4.7.1"),
            ),
            (
                Rcpt,
                452,
                "4.7.1 too many",
                Retry,
                "smtp_temporary",
                Some("4.7.1"),
            ),
            (
                Rcpt,
                550,
                "5.1.1 no such user",
                Fail,
                "smtp_permanent",
                Some("5.1.1"),
            ),
            (Rcpt, 550, "4.7.1 odd", Fail, "smtp_permanent", None),
            (Rcpt, 571, "denied", Fail, "smtp_permanent", None),
            (Data, 451, "local error", Retry, "smtp_temporary", None),
            (
                Body,
                554,
                "5.7.1 spam",
                Fail,
                "smtp_permanent",
                Some("5.7.1"),
            ),
            (
                Body,
                452,
                "4.3.1 disk full",
                Retry,
                "smtp_temporary",
                Some("4.3.1"),
            ),
            (Body, 451, "5.x.1 y", Retry, "smtp_temporary", None),
        ] {
            let error = classify(phase, smtp_code, text);
            assert_eq!(
                (error.class, error.code, error.enhanced.as_deref()),
                (class, code, enhanced),
                "{phase:?} {smtp_code} {text}"
            );
            assert_eq!(error.smtp_code, Some(smtp_code));
        }
    }
}
