//! What waits and runs, and how fast work comes and goes. Looks at a bounded number of live tasks, so that it costs the
//! same however many there are.

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Double, Nullable, Text, Timestamptz},
};
use shared::statement;
use std::collections::HashMap;

/// Live tasks that are looked at, the oldest first.
pub const LOOKED_AT: i64 = 200_000;

/// Live tasks of one lane, as PostgreSQL sees them.
#[derive(Debug, Clone, Default, QueryableByName)]
pub struct LaneLoad {
    #[diesel(sql_type = Text)]
    pub queue: String,
    #[diesel(sql_type = Text)]
    pub lane: String,
    /// Ready to run: their message waits in RabbitMQ or in a worker.
    #[diesel(sql_type = BigInt)]
    pub waiting: i64,
    /// Until a time: SCHEDULED, or between two attempts.
    #[diesel(sql_type = BigInt)]
    pub scheduled: i64,
    /// For a limit, or for their kind to be resumed.
    #[diesel(sql_type = BigInt)]
    pub limited: i64,
    #[diesel(sql_type = BigInt)]
    pub running: i64,
    /// Since when the one that waits longest has been ready.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub oldest: Option<DateTime<Utc>>,
    /// Live tasks that were looked at, in all lanes.
    #[diesel(sql_type = BigInt)]
    pub looked_at: i64,
}

pub fn lanes(connection: &mut PgConnection) -> QueryResult<Vec<LaneLoad>> {
    diesel::sql_query(
        "SELECT queue, lane,
            count(*) FILTER (WHERE stand = 'waiting') AS waiting,
            count(*) FILTER (WHERE stand = 'scheduled') AS scheduled,
            count(*) FILTER (WHERE stand = 'limited') AS limited,
            count(*) FILTER (WHERE stand = 'running') AS running,
            min(GREATEST(updated_at, next_attempt_at)) FILTER (WHERE stand = 'waiting') AS oldest,
            (sum(count(*)) OVER ())::bigint AS looked_at
         FROM (
            SELECT queue, lane, updated_at, next_attempt_at, CASE
                WHEN status = 'PROCESSING' THEN 'running'
                WHEN due_at IS NOT NULL AND EXISTS (SELECT 1 FROM limit_waits AS w WHERE w.task_id = live.id) THEN 'limited'
                WHEN due_at IS NOT NULL OR next_attempt_at > now() THEN 'scheduled'
                ELSE 'waiting' END AS stand
            FROM (
                SELECT id, queue, lane, status, updated_at, due_at, next_attempt_at FROM tasks
                WHERE finished_at IS NULL ORDER BY id LIMIT $1
            ) AS live
         ) AS stands
         GROUP BY queue, lane",
    )
    .bind::<BigInt, _>(LOOKED_AT)
    .load(connection)
}

/// Work per second over the last minute.
#[derive(Debug, Clone, Copy, Default, QueryableByName)]
pub struct Rate {
    #[diesel(sql_type = Double)]
    pub accepted: f64,
    /// Attempts that ended.
    #[diesel(sql_type = Double)]
    pub attempts: f64,
    #[diesel(sql_type = Double)]
    pub finished: f64,
    /// Seconds that attempts ran, in each second.
    #[diesel(sql_type = Double)]
    pub busy: f64,
}

#[derive(QueryableByName)]
struct RateRow {
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = Text)]
    lane: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(embed)]
    rate: Rate,
}

/// The rates of each queue, lane and kind in the last minute of whole steps.
pub fn rates(
    connection: &mut PgConnection,
) -> QueryResult<HashMap<(String, String, String), Rate>> {
    let rows: Vec<RateRow> = diesel::sql_query(
        "SELECT queue, lane, kind, sum(accepted)::float8 / 60 AS accepted, sum(attempts)::float8 / 60 AS attempts,
            sum(finished)::float8 / 60 AS finished, sum(busy_s) / 60 AS busy
         FROM task_rates
         WHERE at >= date_bin('10 seconds', now(), '2000-01-01') - interval '60 seconds'
            AND at < date_bin('10 seconds', now(), '2000-01-01')
         GROUP BY queue, lane, kind",
    )
    .load(connection)?;
    Ok(rows
        .into_iter()
        .map(|row| ((row.queue, row.lane, row.kind), row.rate))
        .collect())
}

statement! {
    /// Adds what this process has accepted to the present step.
    pub struct AddAccepted -> (Text,) {
        queue: Array<Text> = Vec<&'static str>,
        lane: Array<Text> = Vec<&'static str>,
        kind: Array<Text> = Vec<&'static str>,
        accepted: Array<BigInt> = Vec<i64>,
    }
    "INSERT INTO task_rates AS r (at, queue, lane, kind, accepted)
     SELECT date_bin('10 seconds', now(), '2000-01-01'), new.* FROM unnest(?, ?, ?, ?) AS new (queue, lane, kind, accepted)
     ORDER BY queue, lane, kind
     ON CONFLICT (at, queue, lane, kind) DO UPDATE SET accepted = r.accepted + excluded.accepted"
}

impl AddAccepted {
    pub fn run(&self, connection: &mut PgConnection) -> QueryResult<usize> {
        self.execute(connection)
    }
}

/// Deletes one batch of steps older than two days.
pub fn forget_rates(connection: &mut PgConnection, limit: i64) -> QueryResult<usize> {
    diesel::sql_query(
        "DELETE FROM task_rates WHERE (at, queue, lane, kind) IN (
            SELECT at, queue, lane, kind FROM task_rates WHERE at < now() - interval '2 days' ORDER BY at LIMIT $1)",
    )
    .bind::<BigInt, _>(limit)
    .execute(connection)
}
