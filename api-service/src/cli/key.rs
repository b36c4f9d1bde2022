//! `api-service key …`: API keys, made and revoked by whoever can reach the database.

use crate::{
    auth::{self, ApiKey, Scope},
    queries::api_keys::{self, KeyRow, NewKey},
};
use anyhow::{Context, Result, bail};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use diesel::PgConnection;
use shared::{
    config::Config,
    db::{self, Session},
};
use std::io::{self, Write};
use uuid::Uuid;

const LONGEST_NAME: usize = 100;

#[derive(Debug, clap::Subcommand)]
pub enum KeyCommand {
    /// Make a key; it is printed once, alone, on standard output.
    Create {
        /// Whose it is, e.g. the application's name.
        #[arg(long)]
        name: String,
        /// The key dies after this many days; without it, never.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        expires_days: Option<u16>,
        /// What it may do, separated by commas: submit (hand over work), read (look at tasks), operate (cancel, retry,
        /// resolve), admin (everything).
        #[arg(long, value_delimiter = ',', default_value = "admin", value_parser = scope)]
        scopes: Vec<Scope>,
    },
    /// Show all keys, without the secret parts, which are not stored.
    List,
    /// Revoke a key; it dies within two seconds on every replica.
    Revoke {
        /// From `key list`.
        id: Uuid,
    },
}

impl KeyCommand {
    /// Runs the command against the configured database, which is brought up to date first.
    pub fn run(self, config: &Config) -> Result<()> {
        Session::new(&config.database)
            .run(|connection| Ok(self.run_on(connection)))
            .context(
                "the keys can't be reached; is database.url right, and the database running?",
            )?
    }

    fn run_on(self, connection: &mut PgConnection) -> Result<()> {
        db::migrate(connection)?;
        match self {
            Self::Create {
                name,
                expires_days,
                scopes,
            } => {
                let key = create(connection, &name, expires_days, &scopes)?;
                eprintln!(
                    "A key for {name}, shown this once. Send it as `Authorization: Bearer …`."
                );
                writeln!(io::stdout(), "{key}")?;
            }
            Self::List => write!(io::stdout(), "{}", list(connection)?)?,
            Self::Revoke { id } => {
                revoke(connection, id)?;
                eprintln!("Key {id} is revoked.");
            }
        }
        Ok(())
    }
}

/// Makes and stores a key; returns its text, which is nowhere else.
pub fn create(
    connection: &mut PgConnection,
    name: &str,
    expires_days: Option<u16>,
    scopes: &[Scope],
) -> Result<String> {
    if !(1..=LONGEST_NAME).contains(&name.len()) || name.chars().any(char::is_control) {
        bail!("--name must be 1 to {LONGEST_NAME} bytes without control characters");
    }
    let text = auth::generate().context("the operating system gave no randomness")?;
    let Some(key) = ApiKey::parse(&text) else {
        bail!("the new key is not of the form of a key");
    };
    let new = NewKey {
        id: Uuid::now_v7(),
        name,
        hash: &key.hash(),
        hint: key.hint(),
        expires_at: expires_days.map(|days| Utc::now() + TimeDelta::days(days.into())),
        scopes: scopes.iter().map(|scope| scope.as_str()).collect(),
    };
    api_keys::insert(connection, &new).context("the key could not be stored")?;
    Ok(text)
}

fn scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text).ok_or_else(|| {
        let known = Scope::ALL.map(Scope::as_str).join(", ");
        format!("a scope is one of {known}")
    })
}

/// A table of all keys.
pub fn list(connection: &mut PgConnection) -> Result<String> {
    let keys = api_keys::list(connection).context("the keys could not be read")?;
    let mut table = format!(
        "{:<36}  {:<8}  {:<20}  {:<20}  {:<20}  {:<8}  {:<20}  NAME\n",
        "ID", "KEY", "CREATED", "LAST USED", "EXPIRES", "STATE", "SCOPES"
    );
    for key in keys {
        table.push_str(&line(&key, Utc::now()));
    }
    Ok(table)
}

fn line(key: &KeyRow, now: DateTime<Utc>) -> String {
    let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let state = if key.revoked_at.is_some() {
        "revoked"
    } else if key.expires_at.is_some_and(|expires_at| expires_at <= now) {
        "expired"
    } else {
        "valid"
    };
    format!(
        "{:<36}  {:<8}  {:<20}  {:<20}  {:<20}  {state:<8}  {:<20}  {}\n",
        key.id,
        format!("{}…", key.hint),
        time(key.created_at),
        key.last_used_at.map_or_else(|| "never".into(), time),
        key.expires_at.map_or_else(|| "never".into(), time),
        key.scopes.join(","),
        key.name,
    )
}

/// Revokes a key; an error when there is none of that id.
pub fn revoke(connection: &mut PgConnection, id: Uuid) -> Result<()> {
    if !api_keys::revoke(connection, id).context("the key could not be revoked")? {
        bail!("there is no key {id}; `api-service key list` shows them");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_whether_the_key_works() {
        let now = Utc::now();
        let key = KeyRow {
            id: Uuid::nil(),
            name: "shop".into(),
            hint: "wr_abcd".into(),
            created_at: now,
            expires_at: Some(now),
            revoked_at: None,
            scopes: vec!["submit".into(), "read".into()],
            last_used_at: None,
        };
        assert!(line(&key, now).contains("  expired   submit,read           shop"));
        assert!(line(&key, now - TimeDelta::days(1)).contains("  valid     submit,read "));
    }
}
