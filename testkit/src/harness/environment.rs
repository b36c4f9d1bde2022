//! Where the servers are, and what a test's things are called.

use std::env;

use anyhow::{Context, Result};

use super::database;
use crate::services::Management;

/// The three URLs that `make test` gives.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    pub(super) database: String,
    pub(super) amqp: String,
    pub(super) management: String,
}

impl Servers {
    pub(super) fn from_env() -> Result<Self> {
        Ok(Self {
            database: variable("TEST_DATABASE_URL")?,
            amqp: variable("TEST_AMQP_URL")?,
            management: variable("TEST_MANAGEMENT_URL")?,
        })
    }
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| {
        format!(
            "{name} is not set, so there is no server to test against. Run `make test`, or one crate's tests by \
             `cargo run -p testkit --bin stack -- exec -- cargo test -p <crate>`"
        )
    })
}

/// A name that no other test has, fit for a schema and a vhost: `test_<what fits of the name>_<random>`.
pub(super) fn unique_name(test_name: &str) -> String {
    let lower = test_name.to_ascii_lowercase();
    let word: String = lower
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .take(40)
        .collect();
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("test_{word}_{}", &random[..8])
}

/// The URL with its path replaced.
pub(super) fn with_vhost(amqp_url: &str, vhost: &str) -> String {
    let authority = amqp_url.find("://").map_or(0, |at| at + 3);
    let end = amqp_url[authority..]
        .find(['/', '?'])
        .map_or(amqp_url.len(), |at| authority + at);
    format!("{}/{vhost}", &amqp_url[..end])
}

/// The schema and vhost of a test that did not finish, on a thread of its own: it may be the test's only one that
/// unwinds just now. Whatever fails here goes with the servers' folder at the end of the run.
pub(super) fn clean_up(servers: &Servers, name: &str) {
    let (servers, name) = (servers.clone(), name.to_owned());
    let clean = std::thread::spawn(move || {
        let _ = database::drop_schema_now(&servers.database, &name);
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        else {
            return;
        };
        runtime.block_on(async {
            if let Ok(management) = Management::new(&servers.management) {
                let _ = management.delete_vhost(&name).await;
            }
        });
    });
    let _ = clean.join();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_urls() {
        let name =
            unique_name("Accepts::a mail, twice (with a very long name that PostgreSQL would cut)");
        assert!(
            name.starts_with("test_accepts__a_mail__twice") && name.len() < 63,
            "{name}"
        );
        assert_eq!(
            with_vhost("amqp://u:p@127.0.0.1:5672/%2f", "v"),
            "amqp://u:p@127.0.0.1:5672/v"
        );
        assert_eq!(
            with_vhost("amqp://u:p@127.0.0.1:5672?heartbeat=5", "v"),
            "amqp://u:p@127.0.0.1:5672/v"
        );
        assert_eq!(
            with_vhost("amqp://u:p@127.0.0.1:5672", "v"),
            "amqp://u:p@127.0.0.1:5672/v"
        );
    }
}
