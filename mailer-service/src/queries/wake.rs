//! Calling up tasks from the lines of the limits.

use super::gate::bucket;
use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    sql_types::{Array, BigInt, Integer, Text, Uuid as SqlUuid},
};
use shared::{limits::BucketName, statement};
use uuid::Uuid;

statement! {
    /// Buckets in whose lines tasks wait, or were called up by somebody who then died. In any order, so that of very many
    /// none is passed over for ever: those without room stay in the list.
    struct WithLines -> (Text, Text) { limit: BigInt = i64 }
    "SELECT scope, name FROM (
        SELECT scope, name FROM limit_buckets WHERE waiting > 0
        UNION
        SELECT scope, name FROM limit_waits WHERE woken_at < clock_timestamp() - interval '30 seconds'
     ) AS line
     ORDER BY random() LIMIT ?"
}

pub fn lines(connection: &mut PgConnection, limit: i64) -> QueryResult<Vec<BucketName>> {
    let rows: Vec<(String, String)> = (&WithLines { limit }).load(connection)?;
    Ok(rows
        .into_iter()
        .filter_map(|(scope, name)| bucket(&scope, name))
        .collect())
}

statement! {
    /// Locks a bucket unless somebody else has it; back into its line goes what was called up and never came.
    struct TakeLine -> (BigInt,) {
        scope: Text = &'static str,
        name: Text = String,
        scope_again: Text = &'static str,
        name_again: Text = String,
    }
    "WITH taken AS (
        SELECT 1 FROM limit_buckets WHERE scope = ? AND name = ? FOR UPDATE SKIP LOCKED
     ), back AS (
        UPDATE limit_waits SET woken_at = NULL
        WHERE scope = ? AND name = ? AND woken_at < clock_timestamp() - interval '30 seconds' AND EXISTS (SELECT 1 FROM taken)
        RETURNING 1
     )
     SELECT (SELECT count(*) FROM back) FROM taken"
}

/// How many went back into the line; none: somebody else works on it.
pub fn take_line(connection: &mut PgConnection, bucket: &BucketName) -> QueryResult<Option<i64>> {
    let statement = TakeLine {
        scope: bucket.scope.as_str(),
        name: bucket.name.clone(),
        scope_again: bucket.scope.as_str(),
        name_again: bucket.name.clone(),
    };
    let rows: Vec<(i64,)> = (&statement).load(connection)?;
    Ok(rows.into_iter().next().map(|(count,)| count))
}

statement! {
    /// The head of a line, of queues that have room here. What does not wait any longer leaves the line by that.
    struct CallUp -> (Text, SqlUuid, Integer, Text, Text, Text) {
        scope: Text = &'static str,
        name: Text = String,
        queues: Array<Text> = Vec<&'static str>,
        limit: BigInt = i64,
    }
    "WITH head AS (
        SELECT w.task_id FROM limit_waits AS w
        WHERE w.scope = ? AND w.name = ? AND w.woken_at IS NULL AND w.queue = ANY(?)
        ORDER BY w.priority DESC, w.task_id LIMIT ? FOR UPDATE
     ), waiting AS (
        SELECT t.id, t.attempt, t.kind, t.queue, t.lane FROM head JOIN tasks AS t ON t.id = head.task_id
        WHERE t.status IN ('PENDING', 'RETRYING') AND t.due_at IS NOT NULL
     ), woken AS (
        UPDATE limit_waits SET woken_at = clock_timestamp() FROM waiting WHERE task_id = waiting.id
     ), stale AS (
        DELETE FROM limit_waits USING head WHERE limit_waits.task_id = head.task_id
            AND limit_waits.task_id NOT IN (SELECT id FROM waiting)
        RETURNING limit_waits.task_id AS id
     )
     SELECT 'woken', id, attempt + 1, kind, queue, lane FROM waiting
     UNION ALL
     SELECT 'stale', id, 0, '', '', '' FROM stale"
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

/// Calls up the first `limit` of a line, and says how many have left it in all.
pub fn call_up(
    connection: &mut PgConnection,
    line: &BucketName,
    queues: Vec<&'static str>,
    limit: i64,
) -> QueryResult<(Vec<Called>, i64)> {
    let statement = CallUp {
        scope: line.scope.as_str(),
        name: line.name.clone(),
        queues,
        limit,
    };
    let rows: Vec<(String, Uuid, i32, String, String, String)> = (&statement).load(connection)?;
    let left = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let called = rows
        .into_iter()
        .filter(|row| row.0 == "woken")
        .map(|(_, id, attempt, kind, queue, lane)| Called {
            id,
            attempt,
            kind,
            queue,
            lane,
        })
        .collect();
    Ok((called, left))
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
            ORDER BY priority DESC, task_id LIMIT ? FOR UPDATE)
        RETURNING task_id
     ), due AS (
        UPDATE tasks SET due_at = now() FROM head
        WHERE tasks.id = head.task_id AND tasks.status IN ('PENDING', 'RETRYING') AND tasks.due_at IS NOT NULL
     )
     SELECT task_id FROM head"
}

/// How many have left the line.
pub fn release(connection: &mut PgConnection, line: &BucketName, limit: i64) -> QueryResult<i64> {
    let statement = Release {
        scope: line.scope.as_str(),
        name: line.name.clone(),
        limit,
    };
    let rows: Vec<(Uuid,)> = (&statement).load(connection)?;
    Ok(i64::try_from(rows.len()).unwrap_or(i64::MAX))
}

statement! {
    struct Shorten -> (BigInt,) {
        // Negative: longer.
        by: BigInt = i64,
        scope: Text = &'static str,
        name: Text = String,
        // An empty line is as long as it is, whatever was counted.
        is_empty: diesel::sql_types::Bool = bool,
    }
    "UPDATE limit_buckets AS b SET waiting = CASE WHEN asked.is_empty THEN 0 ELSE GREATEST(waiting - asked.by, 0) END
     FROM (SELECT ?::bigint AS by, ?::text AS scope, ?::text AS name, ?::boolean AS is_empty) AS asked
     WHERE b.scope = asked.scope AND b.name = asked.name"
}

/// Notes that so many have left a line; `is_empty`: nobody is left.
pub fn shorten(
    connection: &mut PgConnection,
    line: &BucketName,
    by: i64,
    is_empty: bool,
) -> QueryResult<usize> {
    let statement = Shorten {
        by,
        scope: line.scope.as_str(),
        name: line.name.clone(),
        is_empty,
    };
    (&statement).execute(connection)
}
