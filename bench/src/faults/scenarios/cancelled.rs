//! Everything is cancelled, again and again, while mails are accepted and sent.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::SLOW;
use crate::faults::case::Case;

const MAILS: u64 = 6000;
/// Of each of the load's connections, between two requests.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two requests to cancel; some mails are sent meanwhile.
const BREATH: Duration = Duration::from_millis(250);

pub(super) async fn play(case: &mut Case<'_>) -> Result<()> {
    case.may_cancel();
    case.rig.sink.slow(SLOW).await?;
    case.start_load(MAILS, PAUSE)?;
    let all = json!({"filter": {"kind": "email.send"}});
    let (mut requests, mut running) = (0, 0);
    while case.is_loading() {
        tokio::time::sleep(BREATH).await;
        let answer = case.rig.post("/tasks/cancel", &all).await?;
        requests += 1;
        running += answer["running"].as_u64().unwrap_or(0);
        ensure!(answer["next_cursor"] == Value::Null, "{answer}");
    }
    case.end_load().await?;
    case.recovered();
    case.wait_until_all_is_final().await?;
    let statuses = case.rig.database.statuses().await?;
    let count = |wanted: &str| statuses.values().filter(|status| *status == wanted).count();
    let (completed, cancelled) = (count("COMPLETED"), count("CANCELLED"));
    ensure!(
        completed > 0 && cancelled > 0 && running > 0,
        "{completed} COMPLETED, {cancelled} CANCELLED, {running} struck while they ran: no storm"
    );
    case.note(format!(
        "{requests} requests to cancel everything met {running} running tasks"
    ));
    Ok(())
}
