//! What the control thread asks and writes.

use diesel::{
    ExpressionMethods, PgConnection, QueryDsl, QueryResult, RunQueryDsl,
    sql_types::{Array, Integer, Text, Uuid as SqlUuid},
};
use shared::{schema::tasks::dsl, statement, task::Status};
use uuid::Uuid;

/// The attempts of this worker that somebody wants to end. The conditions are those of `tasks_cancelling`.
pub fn to_cancel(connection: &mut PgConnection, worker: Uuid) -> QueryResult<Vec<(Uuid, i32)>> {
    dsl::tasks
        .filter(dsl::cancel_requested_at.is_not_null())
        .filter(dsl::finished_at.is_null())
        .filter(dsl::status.eq(Status::Processing.as_str()))
        .filter(dsl::worker_id.eq(worker))
        .select((dsl::id, dsl::attempt))
        .load(connection)
}

statement! {
    /// One entry per attempt; what is no longer running keeps what it has.
    pub struct WriteProgress -> (SqlUuid,) {
        id: Array<SqlUuid> = Vec<Uuid>,
        attempt: Array<Integer> = Vec<i32>,
        progress: Array<Text> = Vec<String>,
    }
    "UPDATE tasks AS t SET progress = said.progress::json, updated_at = now()
     FROM unnest(?, ?, ?) AS said (id, attempt, progress)
     WHERE t.id = said.id AND t.attempt = said.attempt AND t.status = 'PROCESSING'"
}

impl WriteProgress {
    pub fn run(&self, connection: &mut PgConnection) -> QueryResult<usize> {
        self.execute(connection)
    }
}
