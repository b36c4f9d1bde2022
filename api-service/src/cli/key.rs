//! `api-service key …`: API keys, made and revoked by whoever can reach the database.

mod table;

pub use table::list;

use crate::{
    auth::{self, ApiKey, Scope},
    budget::OwnLimits,
    queries::{
        api_keys::{self, NewKey, NewLimits},
        audit::{self, Actor},
    },
};
use anyhow::{Context, Result, bail};
use chrono::{TimeDelta, Utc};
use diesel::{Connection, PgConnection};
use serde_json::json;
use shared::{
    config::{Auth, Config},
    db::{self, Session},
};
use std::{
    io::{self, Write},
    str::FromStr,
};
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
        #[command(flatten)]
        limits: LimitArguments,
    },
    /// Change what a key may use; it holds within two seconds on every replica.
    Limit {
        /// From `key list`.
        id: Uuid,
        #[command(flatten)]
        limits: LimitArguments,
    },
    /// Show all keys, without the secret parts, which are not stored.
    List,
    /// Revoke a key; it dies within two seconds on every replica.
    Revoke {
        /// From `key list`.
        id: Uuid,
    },
}

/// What a key may use, over all replicas together. 0: no limit; `default`: as configured in [auth].
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct LimitArguments {
    /// Requests per second on average, e.g. 50 or 0.5; more are answered 429.
    #[arg(long, value_parser = rate, value_name = "N|default")]
    rate: Option<Setting<f64>>,
    /// Requests at once; `default` or 0: those of one second.
    #[arg(long, value_parser = setting::<i32>, value_name = "N|default")]
    burst: Option<Setting<i32>>,
    /// Tasks accepted in a day of UTC, a mail to ten recipients being ten.
    #[arg(long, value_parser = setting::<i64>, value_name = "N|default")]
    daily_quota: Option<Setting<i64>>,
}

/// None: as configured.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Setting<T>(Option<T>);

impl LimitArguments {
    fn own(self) -> OwnLimits {
        OwnLimits {
            rate_per_s: self.rate.and_then(|rate| rate.0),
            burst: self.burst.and_then(|burst| burst.0),
            daily_quota: self.daily_quota.and_then(|quota| quota.0),
        }
    }

    fn change(self) -> Option<NewLimits> {
        let limits = NewLimits {
            rate_per_s: self.rate.map(|rate| rate.0),
            burst: self.burst.map(|burst| burst.0),
            daily_quota: self.daily_quota.map(|quota| quota.0),
        };
        (limits != NewLimits::default()).then_some(limits)
    }
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
                limits,
            } => {
                let key = connection.transaction(|connection| {
                    let scopes = scopes.as_slice();
                    let key =
                        create_limited(connection, &name, expires_days, scopes, limits.own())?;
                    let scopes: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
                    let details = json!({"name": name, "scopes": scopes, "limits": limits.own()});
                    note(connection, "key.create", details)?;
                    anyhow::Ok(key)
                })?;
                eprintln!(
                    "A key for {name}, shown this once. Send it as `Authorization: Bearer …`."
                );
                writeln!(io::stdout(), "{key}")?;
            }
            Self::List => write!(io::stdout(), "{}", list(connection)?)?,
            Self::Limit { id, limits } => {
                let Some(change) = limits.change() else {
                    bail!("say at least one of --rate, --burst and --daily-quota");
                };
                connection.transaction(|connection| {
                    limit(connection, id, change)?;
                    let details = json!({"key": id, "limits": change});
                    note(connection, "key.limit", details)
                })?;
                eprintln!("Key {id} has these limits within two seconds.");
            }
            Self::Revoke { id } => {
                connection.transaction(|connection| {
                    revoke(connection, id)?;
                    note(connection, "key.revoke", json!({"key": id}))
                })?;
                eprintln!("Key {id} is revoked.");
            }
        }
        Ok(())
    }
}

fn note(
    connection: &mut PgConnection,
    action: &'static str,
    details: serde_json::Value,
) -> Result<()> {
    audit::note_other(connection, Actor::CommandLine, action, details)
        .context("the line in the audit log could not be written")
}

/// Makes and stores a key without limits of its own; returns its text, which is nowhere else.
pub fn create(
    connection: &mut PgConnection,
    name: &str,
    expires_days: Option<u16>,
    scopes: &[Scope],
) -> Result<String> {
    create_limited(connection, name, expires_days, scopes, OwnLimits::default())
}

/// Makes and stores a key.
pub fn create_limited(
    connection: &mut PgConnection,
    name: &str,
    expires_days: Option<u16>,
    scopes: &[Scope],
    limits: OwnLimits,
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
        rate_per_s: limits.rate_per_s,
        burst: limits.burst,
        daily_quota: limits.daily_quota,
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

fn rate(text: &str) -> Result<Setting<f64>, String> {
    let highest = Auth::HIGHEST_RATE;
    match setting::<f64>(text)? {
        Setting(Some(rate)) if rate > highest => Err(format!("at most {highest}")),
        rate => Ok(rate),
    }
}

fn setting<T: FromStr + PartialOrd + Default>(text: &str) -> Result<Setting<T>, String> {
    if text == "default" {
        return Ok(Setting(None));
    }
    let number = text.parse().ok().filter(|number| *number >= T::default());
    let number = number.ok_or("a number from 0 on, or `default`")?;
    Ok(Setting(Some(number)))
}

/// Changes a key's limits; an error when there is none of that id.
pub fn limit(connection: &mut PgConnection, id: Uuid, limits: NewLimits) -> Result<()> {
    if !api_keys::limit(connection, id, limits).context("the key could not be changed")? {
        bail!("there is no key {id}; `api-service key list` shows them");
    }
    Ok(())
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
    fn limits_are_numbers_or_default() {
        assert_eq!(rate("0.5"), Ok(Setting(Some(0.5))));
        assert_eq!(rate("default"), Ok(Setting(None)));
        assert_eq!(setting::<i32>("0"), Ok(Setting(Some(0))));
        for wrong in ["-1", "NaN", "inf", "1e9", "many", ""] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert!(setting::<i32>("3000000000").is_err() && setting::<i64>("1.5").is_err());
    }
}
