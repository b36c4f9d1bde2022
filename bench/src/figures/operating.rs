//! How soon an operator's word holds: a running task cancelled, a queue paused, both beside mails that are accepted and sent.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Bench, CONNECTIONS};
use crate::load::{Load, Plan};
use crate::rig::POLL;

/// Running tasks that are cancelled one by one.
const TASKS: usize = 40;
const REST: Duration = Duration::from_millis(50);
/// The longest that the mails are accepted for.
const FLOOD: Duration = Duration::from_secs(60);
/// Of each connection between two requests, so that the machine has some time left.
const PAUSE: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(30);
/// By when a pause holds.
const PAUSED: Duration = Duration::from_secs(2);

/// From the request to the state, and from the request to the last start, by the database's clock.
pub async fn measure(bench: &mut Bench) -> Result<()> {
    let (mut medians, mut worst, mut starts) = (vec![], vec![], vec![]);
    for _ in 0..bench.runs {
        bench.rig.stop_mailers().await?;
        bench.rig.empty().await?;
        bench.rig.start_mailer().await?;
        let flood = Load::start(Plan {
            time: FLOOD,
            pause: PAUSE,
            ..bench.accepting(CONNECTIONS)?
        })?;
        cancel_running(bench).await?;
        medians.push(cancelled(bench, 0.5).await? * 1000.0);
        worst.push(cancelled(bench, 1.0).await? * 1000.0);
        starts.push(pause(bench).await? * 1000.0);
        flood.stop();
        let tally = flood.finish().await?;
        bench.report.trouble("accepting", &tally, 202);
    }
    let report = &mut bench.report;
    let name = "a running task beside mails: cancel → CANCELLED, p50, ms";
    report.several(name.to_owned(), &medians);
    report.at_most(format!("– the worst of {TASKS}, ms"), &worst, 1_000.0);
    let name = "a queue in a flood: pause → the last start, ms";
    report.at_most(name.to_owned(), &starts, 2_000.0);
    bench.rig.stop_mailers().await?;
    bench.rig.empty().await
}

async fn wait_until(bench: &Bench, what: &str, sql: &str, wanted: u64) -> Result<()> {
    let begin = Instant::now();
    while bench.rig.database.number(sql).await? != wanted {
        ensure!(begin.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

async fn cancel_running(bench: &Bench) -> Result<()> {
    let body = json!({"kind": "demo.sleep", "payload": {"seconds": 200}});
    let mut ids = Vec::new();
    for _ in 0..TASKS {
        let task = bench.rig.post("/tasks", &body).await?;
        ids.push(task["id"].as_str().context("no id")?.to_owned());
    }
    let of = |status| {
        format!(
            "SELECT count(*) AS value FROM tasks WHERE kind = 'demo.sleep' AND status = '{status}'"
        )
    };
    wait_until(bench, "the tasks run", &of("PROCESSING"), TASKS as u64).await?;
    for id in &ids {
        bench
            .rig
            .post(&format!("/tasks/{id}/cancel"), &json!({}))
            .await?;
        tokio::time::sleep(REST).await;
    }
    wait_until(
        bench,
        "the tasks are cancelled",
        &of("CANCELLED"),
        TASKS as u64,
    )
    .await
}

async fn cancelled(bench: &Bench, share: f64) -> Result<f64> {
    let sql = format!(
        "SELECT percentile_disc({share}) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - cancel_requested_at))::float8 AS seconds
         FROM tasks WHERE kind = 'demo.sleep'"
    );
    let taken = bench.rig.database.seconds(&sql).await?;
    taken.context("no task was cancelled")
}

/// Mails go on being accepted; resumes the queue.
async fn pause(bench: &Bench) -> Result<f64> {
    let reason = json!({"reason": "bench"});
    bench.rig.post("/queues/mail/pause", &reason).await?;
    tokio::time::sleep(PAUSED * 2).await;
    let sql = "SELECT GREATEST(extract(epoch FROM max(started_at) - (SELECT paused_at FROM pauses)), 0)::float8 AS seconds
         FROM tasks WHERE kind = 'email.send'";
    let last = bench.rig.database.seconds(sql).await?;
    bench.rig.post("/queues/mail/resume", &json!({})).await?;
    last.context("no mail was sent")
}
