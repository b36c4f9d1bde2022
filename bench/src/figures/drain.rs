//! Draining: how fast a worker gets through what was queued while it was stopped.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Bench;
use super::accept::{drained, per_second, queue};
use crate::cpu::{Meter, Use};
use crate::load::Body;

const MAILS: u64 = 10_000;
const NOOPS: u64 = 30_000;

/// Mails a second, from the first that reaches the sink to the last; beside them mails that ask to be held, each of which
/// must be on record before it is sent.
pub async fn mails(bench: &mut Bench) -> Result<()> {
    let (mut rates, mut held) = (vec![], vec![]);
    for _ in 0..bench.runs {
        let (rate, used) = one_run_of_mails(bench, Body::Mail).await?;
        rates.push(rate);
        if rates.len() == usize::from(bench.runs) {
            bench.report.cpu("draining mails, with the start", &used);
        }
        held.push(one_run_of_mails(bench, Body::HeldMail).await?.0);
    }
    bench
        .report
        .at_least(format!("drain of {MAILS} mails, mails/s"), &rates, 5_000.0);
    let name = format!("drain of {MAILS} mails that are to be held, mails/s");
    bench.report.several(name, &held);
    bench.rig.stop_mailers().await?;
    bench.rig.empty().await
}

/// The rate of one run, and the processors' time of it with the worker's start.
pub async fn one_run_of_mails(bench: &mut Bench, body: Body) -> Result<(f64, Use)> {
    queue(bench, body, MAILS).await?;
    let meter = Meter::start(&bench.rig, None);
    bench.rig.start_mailer().await?;
    bench
        .rig
        .wait_for_mails(MAILS, Duration::from_secs(120))
        .await?;
    let used = meter.stop(&bench.rig, None);
    drained(bench).await?;
    let arrivals = bench.rig.sink.deliveries().await?;
    let times = || arrivals.values().map(|arrival| arrival.first);
    let (first, last) = times()
        .min()
        .zip(times().max())
        .context("no mail arrived")?;
    let repeated: u64 = arrivals.values().map(|arrival| arrival.count - 1).sum();
    if repeated > 0 || arrivals.len() as u64 != MAILS {
        bench.report.note(format!(
            "draining: {} of {MAILS} mails arrived, {repeated} more than once",
            arrivals.len()
        ));
    }
    Ok((per_second(MAILS, (last - first).to_std()?), used))
}

/// No-ops a second, from the first start to the last end on record.
pub async fn noops(bench: &mut Bench) -> Result<()> {
    let mut rates = vec![];
    for run in 1..=bench.runs {
        queue(bench, Body::Noop, NOOPS).await?;
        let meter = Meter::start(&bench.rig, None);
        bench.rig.start_mailer().await?;
        drained(bench).await?;
        let used = meter.stop(&bench.rig, None);
        let seconds = bench.rig.database.work_span().await?;
        rates.push(per_second(NOOPS, Duration::from_secs_f64(seconds)));
        if run == bench.runs {
            bench.report.cpu("draining no-ops, with the start", &used);
        }
    }
    bench.report.at_least(
        format!("drain of {NOOPS} no-ops, tasks/s"),
        &rates,
        18_000.0,
    );
    bench.rig.stop_mailers().await?;
    bench.rig.empty().await
}
