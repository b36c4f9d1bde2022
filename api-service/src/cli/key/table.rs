//! `api-service key list`.

use crate::queries::api_keys::{self, KeyRow};
use anyhow::{Context, Result};
use chrono::{DateTime, SecondsFormat, Utc};
use diesel::PgConnection;

/// A table of all keys.
pub fn list(connection: &mut PgConnection) -> Result<String> {
    let keys = api_keys::list(connection).context("the keys could not be read")?;
    let mut table = format!(
        "{:<36}  {:<8}  {:<20}  {:<20}  {:<20}  {:<8}  {:<20}  {:<8}  {:<8}  {:<12}  {:<10}  NAME\n",
        "ID",
        "KEY",
        "CREATED",
        "LAST USED",
        "EXPIRES",
        "STATE",
        "SCOPES",
        "RATE/S",
        "BURST",
        "DAILY QUOTA",
        "USED TODAY"
    );
    for (key, used) in keys {
        table.push_str(&line(&key, used, Utc::now()));
    }
    Ok(table)
}

/// `used`: of the day's quota; none: not counted.
fn line(key: &KeyRow, used: Option<i64>, now: DateTime<Utc>) -> String {
    let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let state = if key.revoked_at.is_some() {
        "revoked"
    } else if key.expires_at.is_some_and(|expires_at| expires_at <= now) {
        "expired"
    } else {
        "valid"
    };
    format!(
        "{:<36}  {:<8}  {:<20}  {:<20}  {:<20}  {state:<8}  {:<20}  {:<8}  {:<8}  {:<12}  {:<10}  {}\n",
        key.id,
        format!("{}…", key.hint),
        time(key.created_at),
        key.last_used_at.map_or_else(|| "never".into(), time),
        key.expires_at.map_or_else(|| "never".into(), time),
        key.scopes.join(","),
        limit(key.rate_per_s),
        limit(key.burst),
        limit(key.daily_quota),
        used.map_or_else(|| "-".into(), |used| used.to_string()),
        key.name,
    )
}

fn limit<T: ToString + PartialEq + Default>(limit: Option<T>) -> String {
    match limit {
        None => "default".into(),
        Some(limit) if limit == T::default() => "none".into(),
        Some(limit) => limit.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use uuid::Uuid;

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
            rate_per_s: Some(0.5),
            burst: None,
            daily_quota: Some(0),
        };
        assert!(line(&key, None, now).contains("  expired   submit,read           0.5 "));
        let line = line(&key, Some(7), now - TimeDelta::days(1));
        assert!(line.contains("  valid     submit,read "), "{line}");
        let words: Vec<_> = line.split_whitespace().rev().take(5).collect();
        assert_eq!(words, ["shop", "7", "none", "default", "0.5"]);
    }
}
