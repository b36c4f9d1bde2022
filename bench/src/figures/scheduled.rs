//! Scheduled tasks: 100,000 that become due over some ten seconds, at the pace at which they were accepted.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::accept::{drained, queue};
use super::{Bench, CONNECTIONS};
use crate::load::{Body, DELAY_S, Load, Plan};

const TASKS: u64 = 100_000;
/// Of each connection between two requests: about 10,000 a second become due, half of what a worker gets through.
const PAUSE: Duration = Duration::from_millis(6);

/// How long after their time they start, at a worker that waits for them.
pub async fn measure(bench: &mut Bench) -> Result<()> {
    let (mut medians, mut tails, mut worst) = (vec![], vec![], vec![]);
    for _ in 0..bench.runs {
        queue(bench, Body::Noop, 1).await?;
        bench.rig.start_mailer().await?;
        drained(bench).await?;
        accept(bench).await?;
        drained(bench).await?;
        medians.push(late(bench, 0.5).await? * 1000.0);
        tails.push(late(bench, 0.99).await? * 1000.0);
        worst.push(late(bench, 1.0).await? * 1000.0);
        let early = "SELECT count(*) AS value FROM tasks WHERE started_at < run_at";
        let early = bench.rig.database.number(early).await?;
        ensure!(early == 0, "{early} tasks started before their time");
    }
    let report = &mut bench.report;
    let name = format!("{TASKS} scheduled tasks, due → started, p50, ms");
    report.several(name, &medians);
    report.several("– p99, ms".to_owned(), &tails);
    report.at_most("– the worst, ms".to_owned(), &worst, 1_000.0);
    bench.rig.stop_mailers().await?;
    bench.rig.empty().await
}

async fn accept(bench: &mut Bench) -> Result<()> {
    let plan = Plan {
        body: Body::Scheduled,
        requests: TASKS,
        time: Duration::from_secs(DELAY_S),
        pause: PAUSE,
        ..bench.accepting(CONNECTIONS)?
    };
    let tally = Load::run(plan).await?;
    bench.report.trouble("scheduling", &tally, 202);
    ensure!(
        tally.good() as u64 == TASKS,
        "only {} of {TASKS} tasks were accepted before the first is due",
        tally.good()
    );
    let waiting = "SELECT count(*) AS value FROM tasks WHERE status = 'SCHEDULED'";
    let waiting = bench.rig.database.number(waiting).await?;
    bench.report.note(format!(
        "{waiting} tasks were scheduled when the last was accepted, within {:.1} s",
        tally.elapsed.as_secs_f64()
    ));
    Ok(())
}

async fn late(bench: &Bench, share: f64) -> Result<f64> {
    let sql = format!(
        "SELECT percentile_disc({share}) WITHIN GROUP (ORDER BY extract(epoch FROM started_at - run_at))::float8 AS seconds
         FROM tasks WHERE run_at IS NOT NULL"
    );
    let late = bench.rig.database.seconds(&sql).await?;
    late.context("no scheduled task has run")
}
