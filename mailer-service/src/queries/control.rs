//! What the control thread asks and writes.

use diesel::{
    ExpressionMethods, PgConnection, QueryDsl, QueryResult, RunQueryDsl,
    sql_types::{Array, Integer, Text, Uuid as SqlUuid},
};
use shared::{schema::tasks::dsl, statement, task::Status};
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
