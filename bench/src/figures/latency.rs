//! End to end: from the first byte of the request until the sink has the mail, one mail at a time.
//!
//! The sink runs in this process and stamps each mail with the clock that the request's start was read from, so neither
//! polling nor a second clock blurs the figure.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use testkit::inbox::{Inbox, InboxOptions};

use super::Bench;
use crate::load::{Body, Load, Plan, percentile};

const MAILS: u64 = 50;
/// Between two mails, so that each finds everything idle.
const REST: Duration = Duration::from_millis(25);
const LIMIT: Duration = Duration::from_secs(10);
const PORT: &str = "WARREN__MAIL__RELAYS__DEFAULT__PORT";

/// p50 and p99 of each run's mails.
pub async fn measure(bench: &mut Bench) -> Result<()> {
    of(bench, Body::Mail).await
}

/// The same for other requests that make a mail.
pub async fn of(bench: &mut Bench, body: Body) -> Result<()> {
    let sink = Inbox::start(InboxOptions {
        keep_raw: false,
        smtps: None,
        ..InboxOptions::default()
    })?;
    let usual = bench.rig.stack.smtp_addr().port();
    point_mailer_at(bench, sink.smtp_addr().port()).await?;
    let (mut medians, mut tails) = (vec![], vec![]);
    for _ in 0..bench.runs {
        let mut times = Vec::new();
        // Not counted: the first ones open the connections.
        for number in 0..MAILS + 5 {
            let time = one(bench, &sink, body).await?;
            if number >= 5 {
                times.push(u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
            }
        }
        times.sort_unstable();
        medians.push(f64::from(percentile(&times, 0.5)) / 1000.0);
        tails.push(f64::from(percentile(&times, 0.99)) / 1000.0);
    }
    let what = if body == Body::Verification {
        "codes"
    } else {
        "mails"
    };
    let name = format!("request start → sink, {MAILS} single {what}, p50, ms");
    bench.report.at_most(name, &medians, 5.0);
    bench.report.several("– p99, ms".to_owned(), &tails);
    point_mailer_at(bench, usual).await?;
    sink.stop().await;
    bench.rig.stop_mailers().await?;
    bench.rig.empty().await
}

async fn one(bench: &Bench, sink: &Inbox, body: Body) -> Result<Duration> {
    let wanted = sink.count() + 1;
    let plan = Plan {
        requests: 1,
        body,
        ..bench.accepting(1)?
    };
    let connected = SystemTime::now();
    let load = Load::start(plan)?;
    sink.wait_for_count(wanted, LIMIT).await?;
    let mail = sink.messages().pop().context("the mail is gone")?;
    let tally = load.finish().await?;
    ensure!(
        tally.good() == 1,
        "the mail was not accepted: {:?}",
        tally.trouble(body.wanted_status())
    );
    let begin = tally.began.context("no request was begun")?;
    ensure!(begin >= connected, "the clock was set back");
    tokio::time::sleep(REST).await;
    Ok(SystemTime::from(mail.received_at)
        .duration_since(begin)
        .unwrap_or_default())
}

async fn point_mailer_at(bench: &mut Bench, port: u16) -> Result<()> {
    bench.rig.stop_mailers().await?;
    bench.rig.mailer()?.set_env(PORT, &port.to_string());
    bench.rig.start_mailer().await
}
