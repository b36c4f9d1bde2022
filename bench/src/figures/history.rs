//! Accepting and draining with a long history in the table, beside the same with an empty one: the cost of a task must
//! not grow with what was done before.

use anyhow::Result;

use super::drain::one_run_of_mails;
use super::{Bench, CONNECTIONS};
use crate::load::Body;

const WANTED: u16 = 202;
/// Of the rates with an empty table.
const SHARE: f64 = 0.9;

#[derive(Default)]
struct Rates {
    accept: Vec<f64>,
    drain: Vec<f64>,
}

/// Both rates with so many finished tasks, and their share of the rates without.
pub async fn measure(bench: &mut Bench, rows: u64) -> Result<()> {
    let empty = rates(bench).await?;
    eprintln!("  adding {rows} finished tasks");
    bench.rig.database.add_history(rows).await?;
    bench.rig.has_history = true;
    let full = rates(bench).await;
    bench.rig.has_history = false;
    bench.rig.forget_tasks().await?;
    let full = full?;
    let report = &mut bench.report;
    for (what, empty, full) in [
        ("accept, req/s", &empty.accept, &full.accept),
        ("drain, mails/s", &empty.drain, &full.drain),
    ] {
        report.several(format!("{what}, before"), empty);
        report.several(format!("{what}, beside {rows} finished tasks"), full);
        let share = super::report::median(full) / super::report::median(empty);
        report.at_least("– share of the rate before".to_owned(), &[share], SHARE);
    }
    Ok(())
}

async fn rates(bench: &mut Bench) -> Result<Rates> {
    let mut rates = Rates::default();
    for _ in 0..bench.runs {
        bench.rig.stop_mailers().await?;
        bench.rig.empty().await?;
        let tally = Bench::warmed(bench.accepting(CONNECTIONS)?).await?;
        bench
            .report
            .trouble("accepting beside history", &tally, WANTED);
        rates.accept.push(tally.rate());
        rates
            .drain
            .push(one_run_of_mails(bench, Body::Mail).await?.0);
    }
    bench.rig.stop_mailers().await?;
    bench.rig.empty().await?;
    Ok(rates)
}
