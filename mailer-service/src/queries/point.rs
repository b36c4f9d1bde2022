//! The record that attempts are about to do what can't be taken back.

use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    sql_types::{Array, Integer, Uuid as SqlUuid},
};
use shared::statement;
use std::collections::HashSet;
use uuid::Uuid;

statement! {
    /// Takes only what still runs under the worker that asks, and that nobody wants to end: a rescue and this statement
    /// can't both have their way with an attempt.
    pub struct PassPoint -> (SqlUuid, Integer) {
        id: Array<SqlUuid> = Vec<Uuid>,
        attempt: Array<Integer> = Vec<i32>,
        worker: Array<SqlUuid> = Vec<Uuid>,
    }
    "UPDATE tasks AS t SET point_of_no_return_at = now()
     FROM (SELECT unnest(?) AS id, unnest(?) AS attempt, unnest(?) AS worker) AS asked
     WHERE t.id = asked.id AND t.attempt = asked.attempt AND t.worker_id = asked.worker
        AND t.status = 'PROCESSING' AND t.cancel_requested_at IS NULL
     RETURNING t.id, t.attempt"
}

impl PassPoint {
    /// The attempts (task, number) that may go on.
    pub fn run(&self, connection: &mut PgConnection) -> QueryResult<HashSet<(Uuid, i32)>> {
        let rows: Vec<(Uuid, i32)> = self.load(connection)?;
        Ok(rows.into_iter().collect())
    }
}
