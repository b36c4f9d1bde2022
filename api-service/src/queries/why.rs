//! Everything that can keep a task from running, looked up in one go.

use super::workers::{self, Slots};
use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    sql_types::{BigInt, Bool, Double, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use uuid::Uuid;

/// Tasks that are counted before one, at most.
pub const COUNTED: i64 = 100_000;

/// A task, and what stands before it.
#[derive(Debug, Clone, QueryableByName)]
pub struct Stand {
    #[diesel(sql_type = Text)]
    pub kind: String,
    #[diesel(sql_type = Text)]
    pub queue: String,
    #[diesel(sql_type = Text)]
    pub lane: String,
    #[diesel(sql_type = Text)]
    pub status: String,
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub due_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub next_attempt_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub useful_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub started_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    pub worker: Option<String>,
    /// The limit in whose line it stands.
    #[diesel(sql_type = Nullable<Text>)]
    pub wait_scope: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub wait_name: Option<String>,
    /// Its message has not been confirmed by RabbitMQ.
    #[diesel(sql_type = Bool)]
    pub is_unpublished: bool,
    #[diesel(sql_type = Bool)]
    pub queue_is_paused: bool,
    #[diesel(sql_type = Bool)]
    pub kind_is_paused: bool,
    /// Living workers that know the kind and take from the queue.
    #[diesel(sql_type = BigInt)]
    pub knowing: i64,
    /// Tasks before it in its lane, among those looked at.
    #[diesel(sql_type = BigInt)]
    pub ahead_in_lane: i64,
    /// Older live tasks of all lanes that were looked at, up to [`COUNTED`].
    #[diesel(sql_type = BigInt)]
    pub looked_at: i64,
    /// Tasks before it in the line of its limit, up to [`COUNTED`].
    #[diesel(sql_type = BigInt)]
    pub ahead_in_line: i64,
    /// Attempts that ended per second in its lane, over the last minute.
    #[diesel(sql_type = Double)]
    pub lane_rate: f64,
    /// Mean seconds of an attempt of its kind, over the last minute.
    #[diesel(sql_type = Nullable<Double>)]
    pub attempt_s: Option<f64>,
}

pub fn stand(connection: &mut PgConnection, id: Uuid) -> QueryResult<Option<(Stand, Slots)>> {
    let stand: Option<Stand> = diesel::sql_query(
        "WITH step AS (SELECT date_bin('10 seconds', now(), '2000-01-01') AS now)
         SELECT t.kind, t.queue, t.lane, t.status, t.attempt, t.due_at, t.next_attempt_at, t.useful_until, t.started_at,
            (SELECT name FROM workers WHERE workers.id = t.worker_id) AS worker,
            w.scope AS wait_scope, w.name AS wait_name,
            EXISTS (SELECT 1 FROM outbox WHERE task_id = t.id AND attempt = t.attempt + 1) AS is_unpublished,
            EXISTS (SELECT 1 FROM pauses WHERE scope = 'queue' AND name = t.queue) AS queue_is_paused,
            EXISTS (SELECT 1 FROM pauses WHERE scope = 'kind' AND name = t.kind) AS kind_is_paused,
            (SELECT count(*) FROM workers WHERE state = 'alive' AND drain IS NULL
                AND t.queue = ANY(queues) AND t.kind = ANY(kinds)) AS knowing,
            COALESCE(lane.ahead, 0) AS ahead_in_lane, COALESCE(lane.looked_at, 0) AS looked_at,
            (SELECT count(*) FROM (
                SELECT 1 FROM limit_waits AS other
                WHERE other.scope = w.scope AND other.name = w.name AND other.woken_at IS NULL
                    AND (other.priority, t.id) > (w.priority, other.task_id)
                LIMIT $3
            ) AS line) AS ahead_in_line,
            COALESCE((SELECT sum(attempts)::float8 / 60 FROM task_rates, step
                WHERE at >= step.now - interval '60 seconds' AND at < step.now
                    AND task_rates.queue = t.queue AND task_rates.lane = t.lane), 0) AS lane_rate,
            (SELECT sum(busy_s) / NULLIF(sum(attempts), 0) FROM task_rates, step
                WHERE at >= step.now - interval '60 seconds' AND task_rates.kind = t.kind) AS attempt_s
         FROM tasks AS t LEFT JOIN limit_waits AS w
            ON w.task_id = t.id AND t.due_at IS NOT NULL AND t.status IN ('PENDING', 'RETRYING')
         LEFT JOIN LATERAL (
            SELECT count(*) AS looked_at, count(*) FILTER (
                WHERE before.queue = t.queue AND before.lane = t.lane AND before.due_at IS NULL
                    AND before.status IN ('PENDING', 'RETRYING') AND COALESCE(before.next_attempt_at <= now(), true)
            ) AS ahead
            FROM (
                SELECT queue, lane, status, due_at, next_attempt_at FROM tasks AS older
                WHERE older.finished_at IS NULL AND older.id < t.id ORDER BY older.id DESC LIMIT $2
            ) AS before
         ) AS lane ON t.status IN ('PENDING', 'RETRYING') AND t.due_at IS NULL
         WHERE t.id = $1",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<BigInt, _>(COUNTED)
    .bind::<BigInt, _>(COUNTED)
    .get_result(connection)
    .optional()?;
    let Some(stand) = stand else { return Ok(None) };
    let slots = workers::slots(connection)?;
    let own = slots.get(&stand.queue).copied().unwrap_or_default();
    Ok(Some((stand, own)))
}
