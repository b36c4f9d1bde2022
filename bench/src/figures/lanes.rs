//! What a flood in one lane costs the others: a worker with few slots, each of which every task holds for a known time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Bench;
use super::accept::{drained, queue};
use crate::load::{Body, Load, Plan, SLEEP_S};
use crate::rig::POLL;

const SLOTS: u64 = 16;
const SLOTS_KEY: &str = "WARREN__WORKER__QUEUES__WORK__SLOTS";
/// The flood: some twelve seconds of work for the slots.
const FLOOD: u64 = 2000;
/// High tasks, one at a time.
const SINGLE: u64 = 100;
const REST: Duration = Duration::from_millis(40);
/// From the request to an idle slot, through PostgreSQL and RabbitMQ and with a claim, at most.
const WAY_MS: f64 = 10.0;
/// Low tasks that wait behind a flood of high ones.
const BEHIND: u64 = 600;
const LIMIT: Duration = Duration::from_secs(60);

/// How long high tasks wait in a flood of low ones, and what share low ones get in a flood of high ones.
pub async fn measure(bench: &mut Bench) -> Result<()> {
    bench.rig.stop_mailers().await?;
    let slots = SLOTS.to_string();
    bench.rig.mailer()?.set_env(SLOTS_KEY, &slots);
    let (mut medians, mut worst, mut shares) = (vec![], vec![], vec![]);
    for _ in 0..bench.runs {
        let (median, most) = high_in_a_flood_of_low(bench).await?;
        medians.push(median * 1000.0);
        worst.push(most * 1000.0);
        shares.push(low_in_a_flood_of_high(bench).await?);
    }
    bench.rig.stop_mailers().await?;
    bench.rig.mailer()?.unset_env(SLOTS_KEY);
    bench.rig.empty().await?;
    let slot = SLEEP_S * 1000.0;
    // All slots may have begun in the same moment.
    let goal = slot + WAY_MS;
    let report = &mut bench.report;
    let name = format!(
        "a high task in a flood of low ones of {slot} ms on {SLOTS} slots, accepted → started, p50, ms"
    );
    report.several(name, &medians);
    report.at_most(format!("– the worst of {SINGLE}, ms"), &worst, goal);
    report.at_least(
        "starts of low tasks in a flood of high ones, % of all".to_owned(),
        &shares,
        // Their reservation: an eighth of the slots.
        12.0,
    );
    Ok(())
}

async fn high_in_a_flood_of_low(bench: &mut Bench) -> Result<(f64, f64)> {
    queue(bench, Body::LowSleep, FLOOD).await?;
    bench.rig.start_mailer().await?;
    wait_until_busy(bench).await?;
    let high = json!({"kind": "demo.noop", "payload": {}, "priority": 9});
    for _ in 0..SINGLE {
        bench.rig.post("/tasks", &high).await?;
        tokio::time::sleep(REST).await;
    }
    let waiting = "SELECT count(*) AS value FROM tasks WHERE status = 'PENDING' AND priority = 0";
    let waiting = bench.rig.database.number(waiting).await?;
    ensure!(waiting > 0, "the flood was over before the last high task");
    drained(bench).await?;
    let of = |share: f64| {
        format!(
            "SELECT percentile_disc({share}) WITHIN GROUP (ORDER BY extract(epoch FROM started_at - created_at))::float8 AS seconds
             FROM tasks WHERE priority = 9"
        )
    };
    let database = &bench.rig.database;
    let median = database.seconds(&of(0.5)).await?;
    let most = database.seconds(&of(1.0)).await?;
    median.zip(most).context("no high task has run")
}

async fn low_in_a_flood_of_high(bench: &mut Bench) -> Result<f64> {
    queue(bench, Body::LowSleep, BEHIND).await?;
    let high = Plan {
        body: Body::HighSleep,
        requests: FLOOD,
        time: LIMIT,
        ..bench.accepting(super::CONNECTIONS)?
    };
    let tally = Load::run(high).await?;
    ensure!(
        tally.good() as u64 == FLOOD,
        "only {} tasks were accepted",
        tally.good()
    );
    bench.rig.wait_until_published().await?;
    bench.rig.start_mailer().await?;
    drained(bench).await?;
    // While high ones waited, which is until the last of them was begun.
    let share = "SELECT 100.0 * count(*) FILTER (WHERE priority = 0)::float8 / count(*) AS seconds FROM tasks
         WHERE started_at <= (SELECT max(started_at) FROM tasks WHERE priority = 9)";
    let share = bench.rig.database.seconds(share).await?;
    share.context("no task has run")
}

async fn wait_until_busy(bench: &Bench) -> Result<()> {
    let running = "SELECT count(*) AS value FROM tasks WHERE status = 'PROCESSING'";
    let begin = Instant::now();
    while bench.rig.database.number(running).await? < SLOTS {
        ensure!(begin.elapsed() < LIMIT, "the slots are not all in use");
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
