//! A mailer dies while it sends mails that ask to be held: none is repeated, and a person can settle what is left.

use anyhow::{Result, ensure};
use serde_json::json;

use super::{MIDWAY, SLOW, drain_to_midway};
use crate::faults::case::Case;

/// Mails that the relay has read to their end and does not keep, so that they look like any other and have not come.
const NOT_KEPT: u64 = 4;
/// Further mails until these have found a connection each.
const FURTHER: u64 = 100;

pub(super) async fn play(case: &mut Case<'_>) -> Result<()> {
    case.hold();
    drain_to_midway(case).await?;
    case.rig.sink.slow_and_mute(SLOW, NOT_KEPT).await?;
    case.wait_for_mails(MIDWAY + FURTHER).await?;
    case.rig.mailer()?.kill9().await?;
    let most = case.in_flight().await?;
    case.rig.start_mailer().await?;
    case.wait_until_all_is_final().await?;
    let statuses = case.rig.database.statuses().await?;
    let unknown = statuses.iter().filter(|(_, status)| *status == "UNKNOWN");
    let unknown: Vec<_> = unknown.map(|(id, _)| *id).collect();
    let count = unknown.len() as u64;
    ensure!(count > 0, "no mail was at its end when its worker died");
    ensure!(
        count <= most,
        "{count} tasks are UNKNOWN, where only {most} mails can have been at their end"
    );
    // The person looks whether the mail has come, which nobody else can tell.
    case.rig.sink.slow(SLOW).await?;
    let arrivals = case.rig.sink.deliveries().await?;
    let mut arrived = 0;
    for id in unknown {
        let has_come = arrivals.contains_key(&id);
        arrived += u64::from(has_come);
        let finding = if has_come { "completed" } else { "retry" };
        let path = format!("/tasks/{id}/resolve");
        case.rig.post(&path, &json!({"as": finding})).await?;
    }
    let repeatable = count - arrived;
    ensure!(
        repeatable >= NOT_KEPT,
        "only {repeatable} UNKNOWN tasks have no mail, where the relay kept {NOT_KEPT} less than it read"
    );
    case.recovered();
    case.note(format!(
        "{count} tasks were UNKNOWN; the mails of {arrived} had come, those of {repeatable} came after they were resolved as retry"
    ));
    Ok(())
}
