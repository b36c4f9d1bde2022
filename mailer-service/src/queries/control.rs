//! What the control thread asks and writes.

use crate::{progress::Word, registry::Key};
use diesel::{
    ExpressionMethods, PgConnection, QueryDsl, QueryResult, RunQueryDsl,
    result::Error as DieselError,
    sql_types::{Array, BigInt, Bool, Double, Integer, Nullable, Text, Uuid as SqlUuid},
};
use shared::{
    schema::tasks::dsl,
    statement,
    task::{Status, TaskId, UNKNOWN_KIND},
};
use std::{collections::HashSet, time::Duration};
use uuid::Uuid;

/// Those of the running tasks that somebody wants to end, with the attempt that runs.
pub fn to_cancel(connection: &mut PgConnection, running: &[Uuid]) -> QueryResult<Vec<(Uuid, i32)>> {
    dsl::tasks
        .filter(dsl::id.eq_any(running))
        .filter(dsl::cancel_requested_at.is_not_null())
        .filter(dsl::status.eq(Status::Processing.as_str()))
        .select((dsl::id, dsl::attempt))
        .load(connection)
}

statement! {
    /// One entry per attempt, with its progress, a piece of its output, or both. Returns those that were written; a row
    /// that somebody is just changing is passed over.
    pub struct Write -> (SqlUuid, Integer) {
        id: Array<SqlUuid> = Vec<Uuid>,
        attempt: Array<Integer> = Vec<i32>,
        progress: Array<Nullable<Text>> = Vec<Option<String>>,
        seq: Array<Nullable<Integer>> = Vec<Option<i32>>,
        text: Array<Nullable<Text>> = Vec<Option<String>>,
        truncated: Array<Nullable<Bool>> = Vec<Option<bool>>,
    }
    "WITH held AS (
        SELECT tasks.id, said.attempt, said.progress, said.seq, said.text, said.truncated
        FROM unnest(?, ?, ?, ?, ?, ?) AS said (id, attempt, progress, seq, text, truncated)
        JOIN tasks ON tasks.id = said.id
        WHERE tasks.attempt = said.attempt AND tasks.status = 'PROCESSING'
        FOR UPDATE OF tasks SKIP LOCKED
     ), progressed AS (
        UPDATE tasks SET progress = held.progress::json, updated_at = now()
        FROM held WHERE tasks.id = held.id AND held.progress IS NOT NULL
     ), put_out AS (
        INSERT INTO task_output (task_id, attempt, seq, text, truncated)
        SELECT id, attempt, seq, text, truncated FROM held WHERE seq IS NOT NULL
        ON CONFLICT DO NOTHING
     )
     SELECT id, attempt FROM held"
}

/// What became of the words of running attempts.
#[derive(Debug, Default)]
pub struct Written {
    pub keys: HashSet<Key>,
    /// Attempts that have ended or are somebody else's; the rest was passed over, and is to be written again.
    pub fenced: Vec<Key>,
}

pub fn write(connection: &mut PgConnection, words: &[Word]) -> QueryResult<Written> {
    let mut statement = Write::default();
    for word in words {
        let (TaskId(id), attempt) = word.key;
        statement.id.push(id);
        statement.attempt.push(attempt);
        let progress = word.progress.as_ref();
        statement.progress.push(
            progress
                .map(serde_json::to_string)
                .transpose()
                .map_err(|error| DieselError::SerializationError(Box::new(error)))?,
        );
        let chunk = word.chunk.as_ref();
        statement.seq.push(chunk.map(|chunk| chunk.seq));
        statement.text.push(chunk.map(|chunk| chunk.text.clone()));
        statement.truncated.push(chunk.map(|chunk| chunk.truncated));
    }
    let rows: Vec<(Uuid, i32)> = (&statement).load(connection)?;
    let mut written = Written {
        keys: keys(rows),
        fenced: Vec::new(),
    };
    if written.keys.len() < words.len() {
        let running: Vec<(Uuid, i32)> = dsl::tasks
            .filter(dsl::id.eq_any(&statement.id))
            .filter(dsl::status.eq(Status::Processing.as_str()))
            .select((dsl::id, dsl::attempt))
            .load(connection)?;
        let running = keys(running);
        written.fenced = words
            .iter()
            .map(|word| word.key)
            .filter(|key| !written.keys.contains(key) && !running.contains(key))
            .collect();
    }
    Ok(written)
}

fn keys(rows: Vec<(Uuid, i32)>) -> HashSet<Key> {
    rows.into_iter()
        .map(|(id, attempt)| (TaskId(id), attempt))
        .collect()
}

/// Has tasks that were put aside for want of a worker that knows their kind run now; at most `limit`, returns how many.
/// `longest`: none was put aside for longer, so what is due later is not looked at.
pub fn wake_parked(
    connection: &mut PgConnection,
    kinds: &[&str],
    longest: Duration,
    limit: i64,
) -> QueryResult<usize> {
    diesel::sql_query(
        "UPDATE tasks SET due_at = now(), next_attempt_at = now() WHERE id IN (
            SELECT id FROM tasks
            WHERE due_at > now() AND due_at < now() + make_interval(secs => $1)
                AND error_code = $2 AND kind = ANY($3)
            ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED)",
    )
    .bind::<Double, _>(longest.as_secs_f64())
    .bind::<Text, _>(UNKNOWN_KIND)
    .bind::<Array<Text>, _>(kinds)
    .bind::<BigInt, _>(limit)
    .execute(connection)
}
