//! Calling up tasks from the lines of the limits.

use super::buckets::bucket;
use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    sql_types::{Array, BigInt, Integer, Text, Uuid as SqlUuid},
};
use shared::{limits::BucketName, statement};
use uuid::Uuid;

statement! {
    /// Buckets in whose lines tasks wait, from one on in the order of their names: each is one step in the index, however
    /// long its line is.
    struct WithLines -> (Text, Text) {
        after_scope: Text = String,
        after_name: Text = String,
        limit: BigInt = i64,
    }
    "WITH RECURSIVE line AS (
        (SELECT scope, name FROM limit_waits
         WHERE woken_at IS NULL AND (scope, name) > (?, ?) ORDER BY scope, name LIMIT 1)
        UNION ALL
        SELECT next.scope, next.name FROM line, LATERAL (
            SELECT w.scope, w.name FROM limit_waits AS w
            WHERE w.woken_at IS NULL AND (w.scope, w.name) > (line.scope, line.name) ORDER BY w.scope, w.name LIMIT 1
        ) AS next
     )
     SELECT scope, name FROM line LIMIT ?"
}

statement! {
    /// Buckets whose tasks were called up by somebody who then died.
    struct WithLost -> (Text, Text) { limit: BigInt = i64 }
    "SELECT DISTINCT scope, name FROM limit_waits WHERE woken_at < clock_timestamp() - interval '30 seconds' LIMIT ?"
}

fn named(rows: Vec<(String, String)>) -> impl Iterator<Item = BucketName> {
    rows.into_iter()
        .filter_map(|(scope, name)| bucket(&scope, name))
}

/// Buckets with a line, at most `limit`, those behind `after` in the order of their names.
pub fn lines(
    connection: &mut PgConnection,
    after: Option<&BucketName>,
    limit: i64,
) -> QueryResult<Vec<BucketName>> {
    let statement = WithLines {
        after_scope: after.map_or_else(String::new, |line| line.scope.as_str().to_owned()),
        after_name: after.map_or_else(String::new, |line| line.name.clone()),
        limit,
    };
    (&statement)
        .load(connection)
        .map(|rows| named(rows).collect())
}

/// Buckets with tasks that were called up and never came.
pub fn lost(connection: &mut PgConnection, limit: i64) -> QueryResult<Vec<BucketName>> {
    (&WithLost { limit })
        .load(connection)
        .map(|rows| named(rows).collect())
}

statement! {
    /// Locks a bucket unless somebody else has it; back into its line goes what was called up and never came. A bucket that
    /// was forgotten is made for the next time.
    struct TakeLine -> (BigInt,) {
        made_scope: Text = &'static str,
        made_name: Text = String,
        scope: Text = &'static str,
        name: Text = String,
        scope_again: Text = &'static str,
        name_again: Text = String,
    }
    "WITH made AS (
        INSERT INTO limit_buckets (scope, name) VALUES (?, ?) ON CONFLICT DO NOTHING
     ), taken AS (
        SELECT 1 FROM limit_buckets WHERE scope = ? AND name = ? FOR UPDATE SKIP LOCKED
     ), back AS (
        UPDATE limit_waits SET woken_at = NULL
        WHERE scope = ? AND name = ? AND woken_at < clock_timestamp() - interval '30 seconds' AND EXISTS (SELECT 1 FROM taken)
     )
     SELECT count(*) FROM taken"
}

/// False: somebody else works on it.
pub fn take_line(connection: &mut PgConnection, bucket: &BucketName) -> QueryResult<bool> {
    let statement = TakeLine {
        made_scope: bucket.scope.as_str(),
        made_name: bucket.name.clone(),
        scope: bucket.scope.as_str(),
        name: bucket.name.clone(),
        scope_again: bucket.scope.as_str(),
        name_again: bucket.name.clone(),
    };
    let (taken,): (i64,) = (&statement).get_result(connection)?;
    Ok(taken > 0)
}

statement! {
    /// The head of a line. What does not wait any longer leaves the line by that.
    struct CallUp -> (Text, SqlUuid, Integer, Text, Text, Text) {
        scope: Text = &'static str,
        name: Text = String,
        queue: Text = &'static str,
        looked_at: BigInt = i64,
        limit: BigInt = i64,
    }
    "WITH head AS (
        SELECT w.task_id, w.priority FROM limit_waits AS w
        WHERE w.scope = ? AND w.name = ? AND w.queue = ? AND w.woken_at IS NULL
        ORDER BY w.priority DESC, w.task_id LIMIT ? FOR UPDATE
     ), waiting AS (
        SELECT t.id, t.attempt, t.kind, t.queue, t.lane, head.priority FROM head JOIN tasks AS t ON t.id = head.task_id
        WHERE t.status IN ('PENDING', 'RETRYING') AND t.due_at IS NOT NULL
     ), called AS (
        SELECT * FROM waiting ORDER BY priority DESC, id LIMIT ?
     ), woken AS (
        UPDATE limit_waits SET woken_at = clock_timestamp() FROM called WHERE task_id = called.id
     ), stale AS (
        DELETE FROM limit_waits USING head WHERE limit_waits.task_id = head.task_id
            AND limit_waits.task_id NOT IN (SELECT id FROM waiting)
        RETURNING limit_waits.task_id AS id
     )
     SELECT what, id, attempt, kind, queue, lane FROM (
        SELECT 'called' AS what, id, attempt + 1 AS attempt, kind, queue, lane, priority FROM called
        UNION ALL
        SELECT 'stale', id, 0, '', '', '', 0 FROM stale
     ) AS done ORDER BY priority DESC, id"
}

/// A task that was called up.
#[derive(Debug, Clone)]
pub struct Called {
    pub id: Uuid,
    pub attempt: i32,
    pub kind: String,
    pub queue: String,
    pub lane: String,
}

/// Calls up at most `limit` of the first `looked_at` of a line, in their order; says how many besides left the line,
/// since they don't wait any longer.
pub fn call_up(
    connection: &mut PgConnection,
    line: &BucketName,
    queue: &'static str,
    looked_at: usize,
    limit: usize,
) -> QueryResult<(Vec<Called>, usize)> {
    let statement = CallUp {
        scope: line.scope.as_str(),
        name: line.name.clone(),
        queue,
        looked_at: i64::try_from(looked_at).unwrap_or(i64::MAX),
        limit: i64::try_from(limit).unwrap_or(i64::MAX),
    };
    let rows: Vec<(String, Uuid, i32, String, String, String)> = (&statement).load(connection)?;
    let all = rows.len();
    let called: Vec<Called> = rows
        .into_iter()
        .filter(|row| row.0 == "called")
        .map(|(_, id, attempt, kind, queue, lane)| Called {
            id,
            attempt,
            kind,
            queue,
            lane,
        })
        .collect();
    let stale = all - called.len();
    Ok((called, stale))
}

statement! {
    struct PutBack -> (BigInt,) { ids: Array<SqlUuid> = Vec<Uuid> }
    "UPDATE limit_waits SET woken_at = NULL WHERE task_id = ANY(?)"
}

/// Puts tasks that were called up for nothing back into their lines.
pub fn put_back(connection: &mut PgConnection, ids: Vec<Uuid>) -> QueryResult<usize> {
    (&PutBack { ids }).execute(connection)
}

statement! {
    /// Ends a line whose limit is gone: the scheduler hands its tasks over to RabbitMQ.
    struct Release -> (SqlUuid,) {
        scope: Text = &'static str,
        name: Text = String,
        limit: BigInt = i64,
    }
    "WITH head AS (
        DELETE FROM limit_waits WHERE task_id IN (
            SELECT task_id FROM limit_waits WHERE scope = ? AND name = ? AND woken_at IS NULL
            ORDER BY queue, priority DESC, task_id LIMIT ? FOR UPDATE)
        RETURNING task_id
     ), due AS (
        UPDATE tasks SET due_at = now() FROM head
        WHERE tasks.id = head.task_id AND tasks.status IN ('PENDING', 'RETRYING') AND tasks.due_at IS NOT NULL
     )
     SELECT task_id FROM head"
}

/// How many have left the line.
pub fn release(
    connection: &mut PgConnection,
    line: &BucketName,
    limit: usize,
) -> QueryResult<usize> {
    let statement = Release {
        scope: line.scope.as_str(),
        name: line.name.clone(),
        limit: i64::try_from(limit).unwrap_or(i64::MAX),
    };
    let rows: Vec<(Uuid,)> = (&statement).load(connection)?;
    Ok(rows.len())
}
