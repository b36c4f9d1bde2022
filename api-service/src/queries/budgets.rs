//! What keys with limits may still use: the record that the replicas lease from. Each statement locks its rows in the
//! order of their keys, so replicas wait for one another and never in a circle.

use crate::budget::{Ask, Lease};
use chrono::NaiveDate;
use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    sql_types::{Array, BigInt, Date, Double, Integer, Nullable, Uuid as SqlUuid},
};
use shared::statement;
use std::{collections::HashMap, time::Duration};
use uuid::Uuid;

statement! {
    /// Fills each bucket for the time that has passed, and takes from it what is wanted, as far as there is any.
    struct LeaseTokens -> (SqlUuid, BigInt, Double) {
        key: Array<SqlUuid> = Vec<Uuid>,
        burst: Array<Double> = Vec<f64>,
        per_s: Array<Double> = Vec<f64>,
        want: Array<BigInt> = Vec<i64>,
        back: Array<BigInt> = Vec<i64>,
    }
    "WITH asked AS (
        SELECT * FROM unnest(?, ?, ?, ?, ?) AS asked (key, burst, per_s, want, back)
     ), held AS (
        SELECT api_key_id, tokens, filled_at FROM api_key_buckets
        WHERE api_key_id IN (SELECT key FROM asked) ORDER BY api_key_id FOR UPDATE
     ), filled AS (
        SELECT key, want, GREATEST(filled_at, now()) AS filled_at, LEAST(burst,
            tokens + back + per_s * GREATEST(0, extract(epoch FROM now() - filled_at)::float8)) AS tokens
        FROM asked JOIN held ON api_key_id = key
     ), granted AS (
        SELECT key, filled_at, tokens, LEAST(want, floor(tokens + 1e-6)) AS n FROM filled
     )
     UPDATE api_key_buckets AS bucket SET tokens = GREATEST(0, granted.tokens - n), filled_at = granted.filled_at
     FROM granted WHERE bucket.api_key_id = key
     RETURNING bucket.api_key_id, n::bigint, bucket.tokens"
}

statement! {
    /// Takes from today's quota.
    struct LeaseTasks -> (SqlUuid, BigInt, BigInt, Date, Double) {
        key: Array<SqlUuid> = Vec<Uuid>,
        quota: Array<BigInt> = Vec<i64>,
        want: Array<BigInt> = Vec<i64>,
        least: Array<BigInt> = Vec<i64>,
        back: Array<BigInt> = Vec<i64>,
        back_day: Array<Nullable<Date>> = Vec<Option<NaiveDate>>,
    }
    "WITH asked AS (
        SELECT * FROM unnest(?, ?, ?, ?, ?, ?) AS asked (key, quota, want, least, back, back_day)
     ), held AS (
        SELECT api_key_id, day, tasks FROM api_key_usage
        WHERE day = (now() AT TIME ZONE 'UTC')::date AND api_key_id IN (SELECT key FROM asked)
        ORDER BY api_key_id FOR UPDATE
     ), used AS (
        SELECT key, day, quota, want, least,
            GREATEST(0, tasks - CASE WHEN back_day = day THEN back ELSE 0 END) AS tasks
        FROM asked JOIN held ON api_key_id = key
     ), granted AS (
        SELECT key, day, tasks, quota, CASE WHEN quota - tasks >= least THEN GREATEST(0, LEAST(want, quota - tasks)) ELSE 0 END AS n
        FROM used
     )
     UPDATE api_key_usage AS record SET tasks = granted.tasks + n
     FROM granted WHERE record.api_key_id = key AND record.day = granted.day
     RETURNING record.api_key_id, n, GREATEST(0, quota - record.tasks), record.day,
        extract(epoch FROM (record.day + 1)::timestamp AT TIME ZONE 'UTC' - now())::float8"
}

/// Leases requests; one entry for each ask.
pub fn lease_tokens(
    connection: &mut PgConnection,
    asks: &[Ask],
) -> QueryResult<HashMap<Uuid, Lease>> {
    with_rows(connection, asks, take_tokens, |connection, asks| {
        let (keys, bursts): (Vec<Uuid>, Vec<f64>) =
            asks.iter().map(|ask| (ask.key, ask.most)).unzip();
        // A bucket begins full.
        diesel::sql_query(
            "INSERT INTO api_key_buckets (api_key_id, tokens) SELECT * FROM unnest($1, $2) ON CONFLICT DO NOTHING",
        )
        .bind::<Array<SqlUuid>, _>(keys)
        .bind::<Array<Double>, _>(bursts)
        .execute(connection)
    })
}

/// Leases tasks of today; one entry for each ask.
pub fn lease_tasks(
    connection: &mut PgConnection,
    asks: &[Ask],
) -> QueryResult<HashMap<Uuid, Lease>> {
    with_rows(connection, asks, take_tasks, |connection, asks| {
        let keys: Vec<Uuid> = asks.iter().map(|ask| ask.key).collect();
        diesel::sql_query(
            "INSERT INTO api_key_usage (api_key_id, day, tasks)
             SELECT key, (now() AT TIME ZONE 'UTC')::date, 0 FROM unnest($1) AS asked (key) ON CONFLICT DO NOTHING",
        )
        .bind::<Array<SqlUuid>, _>(keys)
        .execute(connection)
    })
}

/// Deletes one batch of counts of days that are longer ago than that.
pub fn forget_usage(connection: &mut PgConnection, days: u32, limit: i64) -> QueryResult<usize> {
    diesel::sql_query(
        "DELETE FROM api_key_usage WHERE (api_key_id, day) IN (
            SELECT api_key_id, day FROM api_key_usage WHERE day < (now() AT TIME ZONE 'UTC')::date - $1 LIMIT $2)",
    )
    .bind::<Integer, _>(i32::try_from(days).unwrap_or(i32::MAX))
    .bind::<BigInt, _>(limit)
    .execute(connection)
}

type Leases = HashMap<Uuid, Lease>;

/// Takes; where a row was missing, makes it and takes once more.
fn with_rows(
    connection: &mut PgConnection,
    asks: &[Ask],
    take: fn(&mut PgConnection, &[Ask]) -> QueryResult<Leases>,
    insert: fn(&mut PgConnection, &[Ask]) -> QueryResult<usize>,
) -> QueryResult<Leases> {
    let mut leases = take(connection, asks)?;
    if leases.len() < asks.len() {
        let missing = asks.iter().filter(|ask| !leases.contains_key(&ask.key));
        let missing: Vec<Ask> = missing.copied().collect();
        insert(connection, &missing)?;
        leases.extend(take(connection, &missing)?);
    }
    Ok(leases)
}

fn take_tokens(connection: &mut PgConnection, asks: &[Ask]) -> QueryResult<Leases> {
    let mut statement = LeaseTokens::default();
    for ask in asks {
        statement.key.push(ask.key);
        statement.burst.push(ask.most);
        statement.per_s.push(ask.per_s);
        statement.want.push(bigint(ask.want));
        statement.back.push(bigint(ask.back));
    }
    let rows: Vec<(Uuid, i64, f64)> = (&statement).load(connection)?;
    let leases = rows.into_iter().map(|(key, granted, left)| {
        let lease = Lease {
            granted: granted.unsigned_abs(),
            left,
            day: None,
        };
        (key, lease)
    });
    Ok(leases.collect())
}

fn take_tasks(connection: &mut PgConnection, asks: &[Ask]) -> QueryResult<Leases> {
    let mut statement = LeaseTasks::default();
    for ask in asks {
        statement.key.push(ask.key);
        #[expect(clippy::cast_possible_truncation, reason = "it was an integer")]
        statement.quota.push(ask.most as i64);
        statement.want.push(bigint(ask.want));
        statement.least.push(bigint(ask.least));
        statement.back.push(bigint(ask.back));
        statement.back_day.push(ask.day);
    }
    let rows: Vec<(Uuid, i64, i64, NaiveDate, f64)> = (&statement).load(connection)?;
    let leases = rows.into_iter().map(|(key, granted, left, day, seconds)| {
        let lasts = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "about what is left is enough")]
        let lease = Lease {
            granted: granted.unsigned_abs(),
            left: left as f64,
            day: Some((day, lasts)),
        };
        (key, lease)
    });
    Ok(leases.collect())
}

fn bigint(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
