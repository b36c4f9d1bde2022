//! The claim: one statement that makes waiting tasks this worker's and returns what to do.
//!
//! A message asks for one attempt, and only a row that stands at the attempt before can be claimed for it.
//! So a message that comes twice, late or out of order claims nothing.

use crate::task::Claimed;
use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    sql_types::{Array, Double, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use shared::{
    kinds::KINDS,
    statement,
    task::{Lane, OnWorkerLost, Queue, Status, TaskId},
};
use std::time::Duration;
use uuid::Uuid;

statement! {
    /// The last condition takes up a claim of ours whose answer was lost with the connection. A task that asks to be held
    /// has passed its point of no return with this, unless its kind says that point itself.
    pub struct Claim -> (
        SqlUuid, Integer, Text, Text, Text, Text, Text, Integer, Integer, Text,
        Nullable<Timestamptz>, Nullable<Double>, Nullable<Timestamptz>, Nullable<Text>, Nullable<Integer>, Nullable<Integer>
    ) {
        worker: SqlUuid = Uuid,
        marking: Array<Text> = Vec<&'static str>,
        id: Array<SqlUuid> = Vec<Uuid>,
        attempt: Array<Integer> = Vec<i32>,
        worker_again: SqlUuid = Uuid,
    }
    "UPDATE tasks AS t SET
        status = CASE WHEN t.useful_until <= now() THEN 'EXPIRED' ELSE 'PROCESSING' END,
        finished_at = CASE WHEN t.useful_until <= now() THEN now() END,
        payload = CASE WHEN t.useful_until <= now() AND t.content_ttl_s = 0 THEN without_content(t.payload) ELSE t.payload END,
        content_ttl_s = CASE WHEN t.useful_until <= now() AND t.content_ttl_s = 0 THEN -1 ELSE t.content_ttl_s END,
        attempt = CASE WHEN t.useful_until <= now() THEN t.attempt ELSE message.attempt END,
        worker_id = ?,
        started_at = CASE WHEN t.useful_until <= now() THEN t.started_at ELSE now() END,
        updated_at = now(),
        next_attempt_at = NULL,
        -- Set while it waited for a limit; else null already, which keeps the update out of the index.
        due_at = NULL,
        progress = NULL,
        point_of_no_return_at = CASE WHEN t.on_worker_lost = 'hold' AND t.kind <> ALL (?) THEN now() END
     FROM (SELECT unnest(?) AS id, unnest(?) AS attempt) AS message
     WHERE t.id = message.id AND (
        (t.status IN ('PENDING', 'RETRYING') AND t.attempt = message.attempt - 1)
        OR (t.status = 'PROCESSING' AND t.attempt = message.attempt AND t.worker_id = ?))
     RETURNING t.id, t.attempt, t.status, t.kind, t.queue, t.lane, t.payload::text, t.max_attempts,
        t.forgiven, t.on_worker_lost, t.run_at,
        EXTRACT(EPOCH FROM t.useful_until - now())::float8, t.started_at, t.traceparent,
        t.soft_limit_s, t.hard_limit_s"
}

impl Claim {
    /// For these messages: tasks, and the attempts that they ask for.
    pub fn new(worker: Uuid, id: Vec<Uuid>, attempt: Vec<i32>) -> Self {
        let marking = KINDS.iter().filter(|kind| kind.marks_point);
        Self {
            worker,
            marking: marking.map(|kind| kind.name).collect(),
            id,
            attempt,
            worker_again: worker,
        }
    }
}

/// What became of a claim; messages that appear in neither list have no work left behind them.
#[derive(Debug, Default)]
pub struct Claims {
    pub claimed: Vec<Claimed>,
    /// Their `useful_until` had passed.
    pub expired: Vec<TaskId>,
}

type Row = (
    Uuid,
    i32,
    String,
    String,
    String,
    String,
    String,
    i32,
    i32,
    String,
    Option<DateTime<Utc>>,
    Option<f64>,
    Option<DateTime<Utc>>,
    Option<String>,
    Option<i32>,
    Option<i32>,
);

pub fn run(connection: &mut PgConnection, claim: &Claim) -> QueryResult<Claims> {
    let rows: Vec<Row> = claim.load(connection)?;
    let mut claims = Claims::default();
    for row in rows {
        let (
            id,
            attempt,
            status,
            kind,
            queue,
            lane,
            payload,
            max_attempts,
            forgiven,
            lost,
            run_at,
            useful_for_s,
            started_at,
            traceparent,
            soft_limit_s,
            hard_limit_s,
        ) = row;
        let id = TaskId(id);
        if status == Status::Expired.as_str() {
            claims.expired.push(id);
            continue;
        }
        claims.claimed.push(Claimed {
            id,
            attempt,
            max_attempts,
            forgiven,
            kind,
            queue: Queue::parse(&queue).unwrap_or(Queue::Work),
            lane: Lane::parse(&lane).unwrap_or(Lane::Normal),
            payload,
            on_worker_lost: OnWorkerLost::parse(&lost).unwrap_or(OnWorkerLost::Retry),
            run_at,
            useful_for: useful_for_s
                .and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok()),
            started_at,
            traceparent,
            soft_limit_s,
            hard_limit_s,
            limited: false,
        });
    }
    Ok(claims)
}
