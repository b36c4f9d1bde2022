//! What the gate reads and writes. Whoever adds to the waits and holds below a bucket has locked it first.

use super::buckets::bucket;
use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    sql_types::{Array, Bool, Integer, Nullable, Text, Uuid as SqlUuid},
};
use shared::{limits::BucketName, statement};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

statement! {
    /// The tasks behind messages that could be claimed now.
    pub struct Candidates -> (SqlUuid, Integer, Text, Text, Nullable<Text>, Bool) {
        id: Array<SqlUuid> = Vec<Uuid>,
        attempt: Array<Integer> = Vec<i32>,
        worker: SqlUuid = Uuid,
    }
    "SELECT t.id, message.attempt, t.queue, t.kind, t.limit_key,
        t.status = 'PROCESSING' OR COALESCE(t.useful_until <= now(), false) AS passes
     FROM unnest(?, ?) AS message (id, attempt)
     JOIN tasks AS t ON t.id = message.id
     WHERE (t.status IN ('PENDING', 'RETRYING') AND t.attempt = message.attempt - 1)
        OR (t.status = 'PROCESSING' AND t.attempt = message.attempt AND t.worker_id = ?)"
}

/// A task, and the attempt that a message asks for.
pub type Key = (Uuid, i32);

/// A task that could be claimed.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub queue: String,
    pub kind: String,
    pub limit_key: Option<String>,
    /// Claimed by us already, or too late to run: no limit applies.
    pub passes: bool,
}

impl Candidates {
    pub fn run(&self, connection: &mut PgConnection) -> QueryResult<HashMap<Key, Candidate>> {
        let rows: Vec<(Uuid, i32, String, String, Option<String>, bool)> = self.load(connection)?;
        let candidate = |(id, attempt, queue, kind, limit_key, passes)| {
            let candidate = Candidate {
                queue,
                kind,
                limit_key,
                passes,
            };
            ((id, attempt), candidate)
        };
        Ok(rows.into_iter().map(candidate).collect())
    }
}

statement! {
    struct WithLine -> (Text, Text, Text) {
        scope: Array<Text> = Vec<&'static str>,
        name: Array<Text> = Vec<String>,
        queue: Array<Text> = Vec<String>,
    }
    "SELECT scope, name, queue FROM unnest(?, ?, ?) AS asked (scope, name, queue)
     WHERE EXISTS (
        SELECT 1 FROM limit_waits AS w
        WHERE w.scope = asked.scope AND w.name = asked.name AND w.queue = asked.queue AND w.woken_at IS NULL)"
}

/// A bucket's line for one queue.
pub type Line = (BucketName, String);

/// Those of the lines of locked buckets in which somebody waits.
pub fn occupied<'a>(
    connection: &mut PgConnection,
    lines: impl Iterator<Item = &'a Line>,
) -> QueryResult<HashSet<Line>> {
    let mut asked = WithLine::default();
    for (bucket, queue) in lines {
        asked.scope.push(bucket.scope.as_str());
        asked.name.push(bucket.name.clone());
        asked.queue.push(queue.clone());
    }
    let rows: Vec<(String, String, String)> = (&asked).load(connection)?;
    let line =
        |(scope, name, queue): (String, String, String)| Some((bucket(&scope, name)?, queue));
    Ok(rows.into_iter().filter_map(line).collect())
}

statement! {
    struct CalledUp -> (SqlUuid, Text, Text) { ids: Array<SqlUuid> = Vec<Uuid> }
    "SELECT task_id, scope, name FROM limit_waits
     WHERE task_id = ANY(?) AND woken_at > clock_timestamp() - interval '30 seconds'"
}

/// Those of the tasks that were called up, with the line that they stood in.
pub fn called_up(
    connection: &mut PgConnection,
    ids: Vec<Uuid>,
) -> QueryResult<HashMap<Uuid, BucketName>> {
    let rows: Vec<(Uuid, String, String)> = (&CalledUp { ids }).load(connection)?;
    let called = |(id, scope, name): (Uuid, String, String)| Some((id, bucket(&scope, name)?));
    Ok(rows.into_iter().filter_map(called).collect())
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
    pub struct PutOff -> (SqlUuid,) {
        id: Array<SqlUuid> = Vec<Uuid>,
        attempt: Array<Integer> = Vec<i32>,
        scope: Array<Text> = Vec<&'static str>,
        name: Array<Text> = Vec<String>,
    }
    "WITH asked AS (SELECT * FROM unnest(?, ?, ?, ?) AS asked (id, attempt, scope, name)),
     moved AS (
        UPDATE tasks AS t SET due_at = now() + interval '1 hour' * (1 + random()), updated_at = now()
        FROM asked
        WHERE t.id = asked.id AND t.attempt = asked.attempt - 1 AND t.status IN ('PENDING', 'RETRYING')
        RETURNING t.id, t.queue, t.priority, asked.scope, asked.name
     )
     INSERT INTO limit_waits (task_id, scope, name, queue, priority)
     SELECT id, scope, name, queue, priority FROM moved
     ON CONFLICT (task_id) DO UPDATE SET scope = excluded.scope, name = excluded.name, woken_at = NULL
     RETURNING task_id"
}

impl PutOff {
    pub fn push(&mut self, id: Uuid, attempt: i32, bucket: &BucketName) {
        self.id.push(id);
        self.attempt.push(attempt);
        self.scope.push(bucket.scope.as_str());
        self.name.push(bucket.name.clone());
    }

    /// How many were put off; the others had moved on.
    pub fn run(&self, connection: &mut PgConnection) -> QueryResult<usize> {
        if self.id.is_empty() {
            return Ok(0);
        }
        let rows: Vec<(Uuid,)> = self.load(connection)?;
        Ok(rows.len())
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
