//! Verification codes: what asking for one costs, and how soon its mail is there.

use anyhow::Result;

use super::{Bench, CONNECTIONS, latency};
use crate::load::Body;

const WANTED: u16 = 201;

/// On one connection and on many, workers stopped; then single ones at idle, until the sink has the mail.
pub async fn measure(bench: &mut Bench) -> Result<()> {
    bench.rig.stop_mailers().await?;
    let (mut medians, mut tails, mut rates) = (vec![], vec![], vec![]);
    for _ in 0..bench.runs {
        bench.rig.empty().await?;
        let mut plan = bench.accepting(1)?;
        plan.body = Body::Verification;
        let tally = Bench::warmed(plan.clone()).await?;
        bench.report.trouble("one connection", &tally, WANTED);
        medians.push(tally.milliseconds(0.5));
        tails.push(tally.milliseconds(0.99));
        plan.connections = CONNECTIONS;
        let tally = Bench::warmed(plan).await?;
        bench.report.trouble("many connections", &tally, WANTED);
        rates.push(tally.rate());
    }
    let report = &mut bench.report;
    report.several(
        "POST /verifications, one connection, p50, ms".to_owned(),
        &medians,
    );
    report.several("– p99, ms".to_owned(), &tails);
    report.several(format!("– {CONNECTIONS} connections, req/s"), &rates);
    bench.rig.empty().await?;
    latency::of(bench, Body::Verification).await
}
