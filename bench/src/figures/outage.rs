//! Accepting while RabbitMQ is down, and how long the outbox takes to drain when it is back.

use anyhow::Result;

use super::accept::per_second;
use super::{Bench, CONNECTIONS};

/// Rates of several runs in one outage; what the last run left in the outbox is then drained.
pub async fn measure(bench: &mut Bench) -> Result<()> {
    bench.rig.stop_mailers().await?;
    bench.rig.empty().await?;
    bench.rig.stack.rabbitmq.kill9().await?;
    let (mut echoes, mut rates, mut medians, mut tails) = (vec![], vec![], vec![], vec![]);
    for _ in 0..bench.runs {
        echoes.push(bench.echo(CONNECTIONS).await?);
        bench.rig.forget_tasks().await?;
        let tally = Bench::warmed(bench.accepting(CONNECTIONS)?).await?;
        bench
            .report
            .trouble("accepting without a broker", &tally, 202);
        rates.push(tally.rate());
        medians.push(tally.milliseconds(0.5));
        tails.push(tally.milliseconds(0.99));
    }
    let waiting = bench.rig.database.outbox().await?;
    bench.rig.stack.rabbitmq.start_again().await?;
    let time = bench.rig.wait_until_published().await?;
    let report = &mut bench.report;
    let name = format!("accept, broker down, {CONNECTIONS} connections, req/s");
    report.against_echo(name, &rates, &echoes, 15_000.0);
    report.several("– p50, ms".to_owned(), &medians);
    report.several("– p99, ms".to_owned(), &tails);
    report.note(format!(
        "after the outage {waiting} messages left the outbox within {time:.1?} of the broker's return ({:.0}/s)",
        per_second(waiting, time)
    ));
    bench.rig.empty().await
}
