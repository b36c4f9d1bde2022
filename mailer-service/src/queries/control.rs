//! What the control thread asks and writes.

use diesel::{
    ExpressionMethods, PgConnection, QueryDsl, QueryResult, RunQueryDsl,
    sql_types::{Array, BigInt, Double, Integer, Text, Uuid as SqlUuid},
};
use shared::{
    schema::tasks::dsl,
    statement,
    task::{Status, UNKNOWN_KIND},
};
use std::time::Duration;
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
    /// One entry per attempt; what is no longer running keeps what it has. A row that is being settled is passed over.
    pub struct WriteProgress -> (SqlUuid,) {
        id: Array<SqlUuid> = Vec<Uuid>,
        attempt: Array<Integer> = Vec<i32>,
        progress: Array<Text> = Vec<String>,
    }
    "UPDATE tasks AS t SET progress = said.progress::json, updated_at = now()
     FROM (
        SELECT tasks.id, said.progress
        FROM unnest(?, ?, ?) AS said (id, attempt, progress) JOIN tasks ON tasks.id = said.id
        WHERE tasks.attempt = said.attempt AND tasks.status = 'PROCESSING'
        FOR UPDATE OF tasks SKIP LOCKED
     ) AS said
     WHERE t.id = said.id"
}

impl WriteProgress {
    pub fn run(&self, connection: &mut PgConnection) -> QueryResult<usize> {
        self.execute(connection)
    }
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
