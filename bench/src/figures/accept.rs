//! Accepting: `POST /api/v1/tasks` with an `email.send` of 257 bytes, each 202 committed to disk.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Bench, CONNECTIONS};
use crate::cpu::Meter;
use crate::load::{Body, Load};

const WANTED: u16 = 202;
/// Mails that are left when a run ends get so long to be sent.
const REST_LIMIT: Duration = Duration::from_secs(120);

/// 64 connections, workers stopped: rate, p50 and p99 beside the echo server.
pub async fn at_full_load(bench: &mut Bench) -> Result<()> {
    bench.rig.stop_mailers().await?;
    let (mut echoes, mut rates, mut medians, mut tails) = (vec![], vec![], vec![], vec![]);
    let mut behind = vec![];
    for _ in 0..bench.runs {
        bench.rig.empty().await?;
        let echo = bench.echo.pid();
        let meter = Meter::start(&bench.rig, echo);
        echoes.push(bench.echo(CONNECTIONS).await?);
        let echo_use = meter.stop(&bench.rig, echo);
        let meter = Meter::start(&bench.rig, None);
        let tally = Bench::warmed(bench.accepting(CONNECTIONS)?).await?;
        let used = meter.stop(&bench.rig, None);
        behind.push(bench.rig.database.outbox().await?);
        bench.report.trouble("accepting", &tally, WANTED);
        rates.push(tally.rate());
        medians.push(tally.milliseconds(0.5));
        tails.push(tally.milliseconds(0.99));
        if rates.len() == usize::from(bench.runs) {
            bench.report.cpu("echo", &echo_use);
            bench.report.cpu("accepting", &used);
        }
    }
    let report = &mut bench.report;
    report.several(format!("echo, {CONNECTIONS} connections, req/s"), &echoes);
    let name = format!("accept, {CONNECTIONS} connections, req/s");
    report.against_echo(name, &rates, &echoes, 12_000.0);
    report.several("– p50, ms".to_owned(), &medians);
    report.at_most("– p99, ms".to_owned(), &tails, 20.0);
    report.note(format!(
        "accepting: messages that the broker had not confirmed at the end of each run: {behind:?}"
    ));
    bench.rig.empty().await
}

/// One connection, workers stopped: what a lone caller waits.
pub async fn on_one_connection(bench: &mut Bench) -> Result<()> {
    bench.rig.stop_mailers().await?;
    let (mut medians, mut tails) = (vec![], vec![]);
    for _ in 0..bench.runs {
        bench.rig.empty().await?;
        let tally = Bench::warmed(bench.accepting(1)?).await?;
        bench.report.trouble("one connection", &tally, WANTED);
        medians.push(tally.milliseconds(0.5));
        tails.push(tally.milliseconds(0.99));
    }
    let report = &mut bench.report;
    report.at_most("accept, one connection, p50, ms".to_owned(), &medians, 0.8);
    report.several("– p99, ms".to_owned(), &tails);
    bench.rig.empty().await
}

/// 64 connections while the worker sends what is accepted: both rates over the same time.
pub async fn while_sending(bench: &mut Bench) -> Result<()> {
    let (mut echoes, mut rates, mut tails, mut mails) = (vec![], vec![], vec![], vec![]);
    for run in 1..=bench.runs {
        bench.rig.stop_mailers().await?;
        bench.rig.empty().await?;
        echoes.push(bench.echo(CONNECTIONS).await?);
        bench.rig.start_mailer().await?;
        // The warm-up's mails are the first to be sent.
        let meter = Meter::start(&bench.rig, None);
        Load::run(crate::load::Plan {
            time: super::WARM_UP,
            ..bench.accepting(CONNECTIONS)?
        })
        .await?;
        let (begin, sent) = (Instant::now(), bench.rig.sink.accepted().await?);
        let tally = Load::run(bench.accepting(CONNECTIONS)?).await?;
        let (elapsed, sent) = (begin.elapsed(), bench.rig.sink.accepted().await? - sent);
        let used = meter.stop(&bench.rig, None);
        bench
            .report
            .trouble("accepting while sending", &tally, WANTED);
        rates.push(tally.rate());
        tails.push(tally.milliseconds(0.99));
        mails.push(per_second(sent, elapsed));
        if run == bench.runs {
            bench.report.cpu("accepting and sending", &used);
        }
        // Everything accepted is sent in the end; the next run starts from nothing.
        wait_until_done(bench).await?;
    }
    let report = &mut bench.report;
    let name = format!("accept while sending, {CONNECTIONS} connections, req/s");
    report.against_echo(name, &rates, &echoes, 5_000.0);
    report.several("– p99, ms".to_owned(), &tails);
    report.at_least("– mails/s at the same time".to_owned(), &mails, 3_000.0);
    bench.rig.stop_mailers().await?;
    bench.rig.empty().await
}

async fn wait_until_done(bench: &Bench) -> Result<()> {
    let begin = Instant::now();
    while bench.rig.database.has_live_tasks().await? {
        anyhow::ensure!(
            begin.elapsed() < REST_LIMIT,
            "tasks are still live {REST_LIMIT:?} after the load"
        );
        tokio::time::sleep(crate::rig::POLL * 4).await;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a few million mails")]
pub fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// Queues so many tasks while no worker runs, and waits until the broker has them.
pub async fn queue(bench: &mut Bench, body: Body, count: u64) -> Result<()> {
    bench.rig.stop_mailers().await?;
    bench.rig.empty().await?;
    let plan = crate::load::Plan {
        body,
        requests: count,
        time: REST_LIMIT,
        ..bench.accepting(CONNECTIONS)?
    };
    let tally = Load::run(plan).await?;
    bench.report.trouble("queueing", &tally, WANTED);
    anyhow::ensure!(
        tally.good() as u64 == count,
        "only {} of {count} tasks were accepted",
        tally.good()
    );
    bench.rig.wait_until_published().await?;
    Ok(())
}

/// Waits until no task is live.
pub async fn drained(bench: &Bench) -> Result<()> {
    wait_until_done(bench).await
}
