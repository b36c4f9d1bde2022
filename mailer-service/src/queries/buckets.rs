//! The buckets of limits: locked in the order of their names, and before any task.

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    sql_types::{Array, BigInt, Double, Nullable, Text, Timestamptz},
};
use shared::{
    limits::{BucketName, Scope},
    statement,
};
use std::collections::HashMap;

pub fn bucket(scope: &str, name: String) -> Option<BucketName> {
    Scope::parse(scope).map(|scope| BucketName { scope, name })
}

fn texts<'a>(names: impl Iterator<Item = &'a BucketName>) -> (Vec<&'static str>, Vec<String>) {
    names
        .map(|bucket| (bucket.scope.as_str(), bucket.name.clone()))
        .unzip()
}

statement! {
    struct MakeBuckets -> (Text,) {
        scope: Array<Text> = Vec<&'static str>,
        name: Array<Text> = Vec<String>,
    }
    "INSERT INTO limit_buckets (scope, name)
     SELECT scope, name FROM unnest(?, ?) AS asked (scope, name) ORDER BY scope, name
     ON CONFLICT DO NOTHING"
}

statement! {
    struct LockBuckets -> (Text, Text, Nullable<Double>, Double, Timestamptz) {
        scope: Array<Text> = Vec<&'static str>,
        name: Array<Text> = Vec<String>,
    }
    "SELECT b.scope, b.name, b.tokens, EXTRACT(EPOCH FROM clock_timestamp() - b.filled_at)::float8, clock_timestamp()
     FROM unnest(?, ?) AS asked (scope, name)
     JOIN limit_buckets AS b ON b.scope = asked.scope AND b.name = asked.name
     ORDER BY b.scope, b.name FOR UPDATE OF b"
}

/// A bucket's row.
#[derive(Debug, Clone, Copy)]
pub struct BucketRow {
    /// Tokens left so many seconds ago; none: full.
    pub tokens: Option<f64>,
    pub age_s: f64,
    /// When that was read.
    pub at: DateTime<Utc>,
}

type LockedRow = (String, String, Option<f64>, f64, DateTime<Utc>);

/// Locks the buckets, which are made where there are none.
pub fn lock<'a>(
    connection: &mut PgConnection,
    names: impl Iterator<Item = &'a BucketName>,
) -> QueryResult<HashMap<BucketName, BucketRow>> {
    let (scope, name) = texts(names);
    loop {
        let lock = LockBuckets {
            scope: scope.clone(),
            name: name.clone(),
        };
        let rows: Vec<LockedRow> = (&lock).load(connection)?;
        if rows.len() >= name.len() {
            let known = |(scope, text, tokens, age_s, at): LockedRow| {
                let row = BucketRow { tokens, age_s, at };
                bucket(&scope, text).map(|bucket| (bucket, row))
            };
            return Ok(rows.into_iter().filter_map(known).collect());
        }
        let LockBuckets { scope, name } = lock;
        (&MakeBuckets { scope, name }).execute(connection)?;
    }
}

statement! {
    /// Without those whose attempt has ended, whoever ended it.
    struct CountHolds -> (Text, Text, BigInt) {
        scope: Array<Text> = Vec<&'static str>,
        name: Array<Text> = Vec<String>,
    }
    "WITH asked AS (SELECT * FROM unnest(?, ?) AS asked (scope, name)),
     ended AS (
        DELETE FROM limit_holds AS h USING asked
        WHERE h.scope = asked.scope AND h.name = asked.name AND NOT EXISTS (
            SELECT 1 FROM tasks AS t WHERE t.id = h.task_id AND t.attempt = h.attempt AND t.status = 'PROCESSING')
        RETURNING h.scope, h.name
     )
     SELECT scope, name,
        (SELECT count(*) FROM limit_holds AS h WHERE h.scope = asked.scope AND h.name = asked.name)
        - (SELECT count(*) FROM ended WHERE ended.scope = asked.scope AND ended.name = asked.name)
     FROM asked"
}

statement! {
    /// What was called up long ago was lost with whoever called it; what was cancelled since does not come.
    struct CountWoken -> (Text, Text, BigInt) {
        scope: Array<Text> = Vec<&'static str>,
        name: Array<Text> = Vec<String>,
    }
    "SELECT w.scope, w.name, count(*) FROM unnest(?, ?) AS asked (scope, name)
     JOIN limit_waits AS w ON w.scope = asked.scope AND w.name = asked.name
     JOIN tasks AS t ON t.id = w.task_id AND t.status IN ('PENDING', 'RETRYING')
     WHERE w.woken_at > clock_timestamp() - interval '30 seconds'
     GROUP BY w.scope, w.name"
}

fn counts(rows: Vec<(String, String, i64)>) -> HashMap<BucketName, i64> {
    rows.into_iter()
        .filter_map(|(scope, name, count)| Some((bucket(&scope, name)?, count)))
        .collect()
}

/// Attempts that run under each of the locked buckets; those with none are left out.
pub fn running<'a>(
    connection: &mut PgConnection,
    names: impl Iterator<Item = &'a BucketName>,
) -> QueryResult<HashMap<BucketName, i64>> {
    let (scope, name) = texts(names);
    if scope.is_empty() {
        return Ok(HashMap::new());
    }
    (&CountHolds { scope, name }).load(connection).map(counts)
}

/// Tasks of each of the locked buckets that were called up and have not come.
pub fn woken<'a>(
    connection: &mut PgConnection,
    names: impl Iterator<Item = &'a BucketName>,
) -> QueryResult<HashMap<BucketName, i64>> {
    let (scope, name) = texts(names);
    (&CountWoken { scope, name }).load(connection).map(counts)
}

statement! {
    /// What is left in locked buckets, as of when they were read.
    pub struct Store -> (Text,) {
        scope: Array<Text> = Vec<&'static str>,
        name: Array<Text> = Vec<String>,
        tokens: Array<Double> = Vec<f64>,
        at: Array<Timestamptz> = Vec<DateTime<Utc>>,
    }
    "UPDATE limit_buckets AS b SET tokens = new.tokens, filled_at = new.at
     FROM unnest(?, ?, ?, ?) AS new (scope, name, tokens, at)
     WHERE b.scope = new.scope AND b.name = new.name"
}

impl Store {
    pub fn push(&mut self, bucket: &BucketName, tokens: f64, at: DateTime<Utc>) {
        self.scope.push(bucket.scope.as_str());
        self.name.push(bucket.name.clone());
        self.tokens.push(tokens);
        self.at.push(at);
    }

    pub fn run(&self, connection: &mut PgConnection) -> QueryResult<usize> {
        if self.scope.is_empty() {
            return Ok(0);
        }
        self.execute(connection)
    }
}
