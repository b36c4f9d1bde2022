//! The settlement: outcomes, failed attempts and follow-up messages of a batch, in one autocommit
//! statement. Only a row that is still PROCESSING at the same attempt takes its outcome: a worker that
//! was presumed dead can't overwrite its successor. A task that somebody wants to end gets no further attempt: unless
//! its work succeeded, or nobody can tell, it is CANCELLED.

use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    sql_types::{Array, Bool, Double, Integer, Nullable, Text, Uuid as SqlUuid},
};
use shared::{outbox::OutboxRow, statement, task::Status};
use std::collections::HashMap;
use uuid::Uuid;

statement! {
    /// Arrays with one entry per task, then (`message_*`) per outbox row.
    pub struct Settle -> (SqlUuid, Integer, Text) {
        id: Array<SqlUuid> = Vec<Uuid>,
        attempt: Array<Integer> = Vec<i32>,
        status: Array<Text> = Vec<&'static str>,
        result: Array<Nullable<Text>> = Vec<Option<String>>,
        error_code: Array<Nullable<Text>> = Vec<Option<&'static str>>,
        error_message: Array<Nullable<Text>> = Vec<Option<String>>,
        // Seconds until the next attempt; null: there is none.
        delay: Array<Nullable<Double>> = Vec<Option<f64>>,
        // The delay is a due time here, not a tier in RabbitMQ.
        in_database: Array<Bool> = Vec<bool>,
        finished: Array<Bool> = Vec<bool>,
        // What task_attempts says; null: nothing, as is for 'parked'.
        outcome: Array<Nullable<Text>> = Vec<Option<&'static str>>,
        // Seconds until the relay takes up a message that was not confirmed.
        patience: Double = f64,
        message_id: Array<SqlUuid> = Vec<Uuid>,
        message_task: Array<SqlUuid> = Vec<Uuid>,
        message_attempt: Array<Integer> = Vec<i32>,
        message_kind: Array<Text> = Vec<String>,
        message_lane: Array<Text> = Vec<String>,
        message_exchange: Array<Text> = Vec<String>,
        message_routing_key: Array<Text> = Vec<String>,
        message_traceparent: Array<Nullable<Text>> = Vec<Option<String>>,
    }
    "WITH input AS (
        SELECT * FROM unnest(?, ?, ?, ?, ?, ?, ?, ?, ?, ?) AS input (
            id, attempt, status, result, error_code, error_message, delay, in_database, finished, outcome)
     ), settled AS (
        UPDATE tasks AS t SET
            status = CASE WHEN t.cancel_requested_at IS NOT NULL AND input.status IN ('PENDING', 'RETRYING', 'FAILED')
                THEN 'CANCELLED' ELSE input.status END,
            result = input.result::json,
            -- The content of what must not be kept goes with its end.
            payload = CASE WHEN t.content_ttl_s = 0 AND (input.finished OR t.cancel_requested_at IS NOT NULL)
                THEN without_content(t.payload) ELSE t.payload END,
            content_ttl_s = CASE WHEN t.content_ttl_s = 0 AND (input.finished OR t.cancel_requested_at IS NOT NULL)
                THEN -1 ELSE t.content_ttl_s END,
            progress = CASE WHEN input.status <> 'COMPLETED' THEN t.progress END,
            -- What was given back keeps the error of the attempt before.
            error_code = CASE WHEN input.outcome = 'released' THEN COALESCE(input.error_code, t.error_code)
                ELSE input.error_code END,
            error_message = CASE WHEN input.outcome = 'released' THEN COALESCE(input.error_message, t.error_message)
                ELSE input.error_message END,
            next_attempt_at = CASE WHEN t.cancel_requested_at IS NULL THEN now() + make_interval(secs => input.delay) END,
            due_at = CASE WHEN input.in_database AND t.cancel_requested_at IS NULL
                THEN now() + make_interval(secs => input.delay) END,
            finished_at = CASE WHEN input.finished OR t.cancel_requested_at IS NOT NULL THEN now() END,
            max_attempts = t.max_attempts
                + CASE WHEN input.outcome IN ('released', 'parked') AND t.cancel_requested_at IS NULL THEN 1 ELSE 0 END,
            forgiven = t.forgiven
                + CASE WHEN input.outcome IN ('released', 'parked') AND t.cancel_requested_at IS NULL THEN 1 ELSE 0 END,
            updated_at = now()
        FROM input
        WHERE t.id = input.id AND t.attempt = input.attempt AND t.status = 'PROCESSING'
        RETURNING t.id, t.attempt, t.status AS new_status, t.worker_id, t.started_at, t.next_attempt_at,
            input.outcome, input.error_code, input.error_message
     ), attempts AS (
        INSERT INTO task_attempts (task_id, attempt, outcome, error_code, error_message, worker_id,
            started_at, ended_at, next_attempt_at)
        SELECT id, attempt, outcome, error_code, error_message, worker_id, started_at, now(), next_attempt_at
        FROM settled
        WHERE outcome <> 'parked'
        ON CONFLICT DO NOTHING
     ), messages AS (
        INSERT INTO outbox (id, task_id, attempt, kind, lane, exchange, routing_key, traceparent, publish_after)
        SELECT message.*, now() + make_interval(secs => ?) FROM unnest(?, ?, ?, ?, ?, ?, ?, ?) AS message (
            id, task_id, attempt, kind, lane, exchange, routing_key, traceparent)
        WHERE task_id IN (SELECT id FROM settled WHERE new_status <> 'CANCELLED')
        ON CONFLICT DO NOTHING
     )
     SELECT id, attempt, new_status FROM settled"
}

impl Settle {
    pub fn push_message(&mut self, row: &OutboxRow) {
        self.message_id.push(row.id);
        self.message_task.push(row.task_id);
        self.message_attempt.push(row.attempt);
        self.message_kind.push(row.kind.clone());
        self.message_lane.push(row.lane.clone());
        self.message_exchange.push(row.exchange.clone());
        self.message_routing_key.push(row.routing_key.clone());
        self.message_traceparent.push(row.traceparent.clone());
    }

    /// The tasks (id, attempt) whose outcome was taken, and whether they were cancelled instead of going on.
    pub fn run(&self, connection: &mut PgConnection) -> QueryResult<HashMap<(Uuid, i32), bool>> {
        let rows: Vec<(Uuid, i32, String)> = self.load(connection)?;
        let is_cancelled = |status: &str| status == Status::Cancelled.as_str();
        Ok(rows
            .into_iter()
            .map(|(id, attempt, status)| ((id, attempt), is_cancelled(&status)))
            .collect())
    }
}
