//! Adds up work done in ten seconds' steps.

use crate::load::tally::Sums;
use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    sql_types::{Array, BigInt, Double, Text},
};
use shared::statement;

statement! {
    struct Add -> (Text,) {
        queue: Array<Text> = Vec<&'static str>,
        lane: Array<Text> = Vec<&'static str>,
        kind: Array<Text> = Vec<&'static str>,
        attempts: Array<BigInt> = Vec<i64>,
        finished: Array<BigInt> = Vec<i64>,
        failed: Array<BigInt> = Vec<i64>,
        busy_s: Array<Double> = Vec<f64>,
    }
    "INSERT INTO task_rates AS r (at, queue, lane, kind, attempts, finished, failed, busy_s)
     SELECT date_bin('10 seconds', now(), '2000-01-01'), done.* FROM unnest(?, ?, ?, ?, ?, ?, ?)
        AS done (queue, lane, kind, attempts, finished, failed, busy_s)
     ORDER BY queue, lane, kind
     ON CONFLICT (at, queue, lane, kind) DO UPDATE SET
        attempts = r.attempts + excluded.attempts, finished = r.finished + excluded.finished,
        failed = r.failed + excluded.failed, busy_s = r.busy_s + excluded.busy_s"
}

pub fn add(connection: &mut PgConnection, counts: &Sums) -> QueryResult<usize> {
    let mut add = Add::default();
    for ((queue, lane, kind), counts) in counts {
        add.queue.push(queue.as_str());
        add.lane.push(lane.as_str());
        add.kind.push(kind);
        add.attempts.push(counts.attempts);
        add.finished.push(counts.finished);
        add.failed.push(counts.failed);
        add.busy_s.push(counts.busy.as_secs_f64());
    }
    (&add).execute(connection)
}
