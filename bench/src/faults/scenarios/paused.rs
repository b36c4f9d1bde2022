//! A queue, then a kind, is paused in a flood: workers stop taking at once, accepting goes on, and the pause outlives the
//! death of a worker and of all connections.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::{DRAIN, MIDWAY, SLOW, SOME};
use crate::faults::case::Case;
use crate::rig::POLL;

/// By when no worker takes anything any more.
const STOPPED: Duration = Duration::from_secs(2);
/// For the mails that were under way.
const LAST: Duration = Duration::from_secs(30);
const RUNNING: &str = "SELECT count(*) AS value FROM tasks WHERE status = 'PROCESSING'";
const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS value";
const LAST_START: &str =
    "SELECT (extract(epoch FROM max(started_at)) * 1000)::bigint AS value FROM tasks";

pub(super) async fn play(case: &mut Case<'_>) -> Result<()> {
    case.allow_attempts(1);
    case.rig.stack.add_mailer().await?;
    case.queue_mails(DRAIN).await?;
    case.rig.sink.slow(SLOW).await?;
    for mailer in &mut case.rig.stack.mailers {
        mailer.start_again().await?;
    }
    case.start_steady_load()?;
    case.wait_for_mails(MIDWAY).await?;

    let sent = pause(case, "/queues/mail").await?;
    // Nothing runs, so this costs nothing.
    case.rig.mailer()?.kill9().await?;
    case.rig.stack.rabbitmq.close_all_connections().await?;
    case.rig.start_mailer().await?;
    resume_after_silence(case, "/queues/mail", sent).await?;

    let sent = pause(case, "/kinds/email.send").await?;
    resume_after_silence(case, "/kinds/email.send", sent).await?;
    case.recovered();
    case.wait_for_acceptances(SOME).await?;
    case.end_load().await
}

/// Returns how many mails had been sent when the last one under way was.
async fn pause(case: &mut Case<'_>, what: &str) -> Result<u64> {
    let reason = json!({"reason": "a flood"});
    case.rig.post(&format!("{what}/pause"), &reason).await?;
    let paused = case.rig.database.number(NOW).await?;
    tokio::time::sleep(STOPPED).await;
    let begin = Instant::now();
    while case.rig.database.number(RUNNING).await? > 0 {
        ensure!(
            begin.elapsed() < LAST,
            "{what} is paused, and tasks still run"
        );
        tokio::time::sleep(POLL).await;
    }
    let last = case.rig.database.number(LAST_START).await?;
    let after = Duration::from_millis(last.saturating_sub(paused));
    ensure!(
        after <= STOPPED,
        "the last task was begun {after:?} after {what} was paused"
    );
    case.note(format!(
        "the last task was begun {after:?} after {what} was paused"
    ));
    case.rig.sink.count().await
}

/// Accepting goes on, and nothing is sent.
async fn resume_after_silence(case: &mut Case<'_>, what: &str, sent: u64) -> Result<()> {
    case.wait_for_acceptances(SOME).await?;
    let now = case.rig.sink.count().await?;
    ensure!(
        now == sent,
        "{} mails were sent while {what} was paused",
        now - sent
    );
    case.rig.post(&format!("{what}/resume"), &json!({})).await?;
    case.wait_for_mails(sent + MIDWAY).await
}
