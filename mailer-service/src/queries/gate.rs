//! What the gate reads and writes. Whoever touches a bucket, or the waits and holds below it, has locked it first; buckets
//! are locked in the order of their names, and before any task.

use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    sql_types::{Array, BigInt, Bool, Double, Integer, Nullable, SmallInt, Text, Uuid as SqlUuid},
};
use shared::{
    limits::{BucketName, Scope},
    statement,
};
use std::collections::HashMap;
use uuid::Uuid;

statement! {
    /// The tasks behind messages that could be claimed now, with where they wait, if they do.
    pub struct Candidates -> (
        SqlUuid, Text, Text, SmallInt, Nullable<Text>, Bool, Nullable<Text>, Nullable<Text>, Bool
    ) {
        id: Array<SqlUuid> = Vec<Uuid>,
        attempt: Array<Integer> = Vec<i32>,
        worker: SqlUuid = Uuid,
    }
    "SELECT t.id, t.queue, t.kind, t.priority, t.limit_key,
        t.status = 'PROCESSING' OR COALESCE(t.useful_until <= now(), false) AS passes,
        w.scope, w.name, w.woken_at IS NOT NULL
     FROM unnest(?, ?) AS message (id, attempt)
     JOIN tasks AS t ON t.id = message.id
     LEFT JOIN limit_waits AS w ON w.task_id = t.id
     WHERE (t.status IN ('PENDING', 'RETRYING') AND t.attempt = message.attempt - 1)
        OR (t.status = 'PROCESSING' AND t.attempt = message.attempt AND t.worker_id = ?)"
}

/// A task that could be claimed.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub id: Uuid,
    pub queue: String,
    pub kind: String,
    pub priority: i16,
    pub limit_key: Option<String>,
    /// Claimed by us already, or too late to run: no limit applies.
    pub passes: bool,
    pub wait: Option<Wait>,
}

#[derive(Debug, Clone)]
pub struct Wait {
    pub bucket: BucketName,
    pub woken: bool,
}

type CandidateRow = (
    Uuid,
    String,
    String,
    i16,
    Option<String>,
    bool,
    Option<String>,
    Option<String>,
    bool,
);

impl Candidates {
    pub fn run(&self, connection: &mut PgConnection) -> QueryResult<HashMap<Uuid, Candidate>> {
        let rows: Vec<CandidateRow> = self.load(connection)?;
        let candidate = |row: CandidateRow| {
            let (id, queue, kind, priority, limit_key, passes, scope, name, woken) = row;
            let wait = scope.zip(name).and_then(|(scope, name)| {
                let bucket = bucket(&scope, name)?;
                Some(Wait { bucket, woken })
            });
            let candidate = Candidate {
                id,
                queue,
                kind,
                priority,
                limit_key,
                passes,
                wait,
            };
            (id, candidate)
        };
        Ok(rows.into_iter().map(candidate).collect())
    }
}

pub(super) fn bucket(scope: &str, name: String) -> Option<BucketName> {
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
    struct LockBuckets -> (Text, Text, Nullable<Double>, Double, BigInt) {
        scope: Array<Text> = Vec<&'static str>,
        name: Array<Text> = Vec<String>,
    }
    "SELECT b.scope, b.name, b.tokens, EXTRACT(EPOCH FROM clock_timestamp() - b.filled_at)::float8, b.waiting
     FROM unnest(?, ?) AS asked (scope, name)
     JOIN limit_buckets AS b ON b.scope = asked.scope AND b.name = asked.name
     ORDER BY b.scope, b.name FOR UPDATE OF b"
}

/// A bucket's row: tokens left (none: full) so many seconds ago, and tasks waiting.
pub type BucketRow = (Option<f64>, f64, i64);

/// Locks the buckets, which are made where there are none.
pub fn lock<'a>(
    connection: &mut PgConnection,
    names: impl Iterator<Item = &'a BucketName>,
) -> QueryResult<HashMap<BucketName, BucketRow>> {
    let (scope, name) = texts(names);
    let make = MakeBuckets {
        scope: scope.clone(),
        name: name.clone(),
    };
    (&make).execute(connection)?;
    let rows: Vec<(String, String, Option<f64>, f64, i64)> =
        (&LockBuckets { scope, name }).load(connection)?;
    let known = |(scope, text, tokens, age_s, waiting): (String, String, _, _, _)| {
        bucket(&scope, text).map(|bucket| (bucket, (tokens, age_s, waiting)))
    };
    Ok(rows.into_iter().filter_map(known).collect())
}

statement! {
    /// Holds whose attempt has ended, whoever ended it.
    struct DropEnded -> (Text,) {
        scope: Array<Text> = Vec<&'static str>,
        name: Array<Text> = Vec<String>,
    }
    "DELETE FROM limit_holds AS h USING unnest(?, ?) AS asked (scope, name)
     WHERE h.scope = asked.scope AND h.name = asked.name AND NOT EXISTS (
        SELECT 1 FROM tasks AS t WHERE t.id = h.task_id AND t.attempt = h.attempt AND t.status = 'PROCESSING')"
}

statement! {
    struct CountHolds -> (Text, Text, BigInt) {
        scope: Array<Text> = Vec<&'static str>,
        name: Array<Text> = Vec<String>,
    }
    "SELECT h.scope, h.name, count(*) FROM unnest(?, ?) AS asked (scope, name)
     JOIN limit_holds AS h ON h.scope = asked.scope AND h.name = asked.name
     GROUP BY h.scope, h.name"
}

statement! {
    /// What was called up long ago was lost with whoever called it.
    struct CountWoken -> (Text, Text, BigInt) {
        scope: Array<Text> = Vec<&'static str>,
        name: Array<Text> = Vec<String>,
    }
    "SELECT w.scope, w.name, count(*) FROM unnest(?, ?) AS asked (scope, name)
     JOIN limit_waits AS w ON w.scope = asked.scope AND w.name = asked.name
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
    let ended = DropEnded {
        scope: scope.clone(),
        name: name.clone(),
    };
    (&ended).execute(connection)?;
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
    #[derive(Clone)]
    pub struct Hold -> (Text,) {
        scope: Array<Text> = Vec<&'static str>,
        name: Array<Text> = Vec<String>,
        task: Array<SqlUuid> = Vec<Uuid>,
        attempt: Array<Integer> = Vec<i32>,
    }
    "INSERT INTO limit_holds (scope, name, task_id, attempt) SELECT * FROM unnest(?, ?, ?, ?)
     ON CONFLICT (scope, name, task_id) DO UPDATE SET attempt = excluded.attempt"
}

impl Hold {
    pub fn push(&mut self, bucket: &BucketName, task: Uuid, attempt: i32) {
        self.scope.push(bucket.scope.as_str());
        self.name.push(bucket.name.clone());
        self.task.push(task);
        self.attempt.push(attempt);
    }

    pub fn run(&self, connection: &mut PgConnection) -> QueryResult<usize> {
        if self.task.is_empty() {
            return Ok(0);
        }
        self.execute(connection)
    }
}

statement! {
    /// Puts tasks into the lines of their buckets. Their due time is a net below that: whatever becomes of the line, the
    /// scheduler has them looked at again by then.
    pub struct PutOff -> (SqlUuid, Text, Text) {
        id: Array<SqlUuid> = Vec<Uuid>,
        attempt: Array<Integer> = Vec<i32>,
        scope: Array<Text> = Vec<&'static str>,
        name: Array<Text> = Vec<String>,
    }
    "WITH asked AS (SELECT * FROM unnest(?, ?, ?, ?) AS asked (id, attempt, scope, name)),
     moved AS (
        UPDATE tasks AS t SET due_at = now() + interval '10 minutes', updated_at = now()
        FROM asked
        WHERE t.id = asked.id AND t.attempt = asked.attempt - 1 AND t.status IN ('PENDING', 'RETRYING')
        RETURNING t.id, t.queue, t.priority, asked.scope, asked.name
     )
     INSERT INTO limit_waits (task_id, scope, name, queue, priority)
     SELECT id, scope, name, queue, priority FROM moved
     ON CONFLICT (task_id) DO UPDATE SET scope = excluded.scope, name = excluded.name, woken_at = NULL
     RETURNING task_id, scope, name"
}

impl PutOff {
    pub fn push(&mut self, id: Uuid, attempt: i32, bucket: &BucketName) {
        self.id.push(id);
        self.attempt.push(attempt);
        self.scope.push(bucket.scope.as_str());
        self.name.push(bucket.name.clone());
    }

    /// Those that were put off, and into which line; the others had moved on.
    pub fn run(&self, connection: &mut PgConnection) -> QueryResult<Vec<(Uuid, BucketName)>> {
        if self.id.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<(Uuid, String, String)> = self.load(connection)?;
        let named = |(id, scope, name): (Uuid, String, String)| Some((id, bucket(&scope, name)?));
        Ok(rows.into_iter().filter_map(named).collect())
    }
}

statement! {
    struct Leave -> (SqlUuid,) { ids: Array<SqlUuid> = Vec<Uuid> }
    "DELETE FROM limit_waits WHERE task_id = ANY(?)"
}

/// Takes tasks out of the lines.
pub fn leave(connection: &mut PgConnection, ids: Vec<Uuid>) -> QueryResult<usize> {
    if ids.is_empty() {
        return Ok(0);
    }
    (&Leave { ids }).execute(connection)
}

statement! {
    /// The state of locked buckets.
    pub struct Store -> (Text,) {
        scope: Array<Text> = Vec<&'static str>,
        name: Array<Text> = Vec<String>,
        // Null: full.
        tokens: Array<Nullable<Double>> = Vec<Option<f64>>,
        waiting: Array<BigInt> = Vec<i64>,
    }
    "UPDATE limit_buckets AS b SET tokens = new.tokens, filled_at = clock_timestamp(), waiting = GREATEST(new.waiting, 0)
     FROM unnest(?, ?, ?, ?) AS new (scope, name, tokens, waiting)
     WHERE b.scope = new.scope AND b.name = new.name"
}

impl Store {
    pub fn push(&mut self, bucket: &BucketName, tokens: Option<f64>, waiting: i64) {
        self.scope.push(bucket.scope.as_str());
        self.name.push(bucket.name.clone());
        self.tokens.push(tokens);
        self.waiting.push(waiting);
    }

    pub fn run(&self, connection: &mut PgConnection) -> QueryResult<usize> {
        self.execute(connection)
    }
}
