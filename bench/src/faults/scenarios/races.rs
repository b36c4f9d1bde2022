//! Two api-services, so that reapers, reconcilers and relays race, and four mailers that die one after another in a flood.

use anyhow::{Context, Result, ensure};
use testkit::stack::VHOST;

use super::SLOWER;
use crate::faults::case::Case;

const MAILERS: usize = 4;
/// Mails whose messages the broker loses before the flood.
const LOST: u64 = 1000;
/// Further requests accepted between two deaths.
const BETWEEN: u64 = 300;
/// So that the reconcilers look, and find, all the time.
const IMPATIENT: [(&str, &str); 2] = [
    ("WARREN__RESCUE__RECONCILE_S", "1"),
    ("WARREN__RESCUE__LOST_AFTER_S", "3"),
];

pub(super) async fn play(case: &mut Case<'_>) -> Result<()> {
    let api = &mut case.rig.stack.api;
    api.terminate().await?;
    for (key, value) in IMPATIENT {
        api.set_env(key, value);
    }
    api.start_again().await?;
    case.rig.stack.add_api().await?;
    while case.rig.stack.mailers.len() < MAILERS {
        case.rig.stack.add_mailer().await?;
    }
    case.queue_mails(LOST).await?;
    let management = case.rig.stack.rabbitmq.management();
    management.purge(VHOST, "warren.tasks.mail.normal").await?;
    case.rig.sink.slow(SLOWER).await?;
    for mailer in &mut case.rig.stack.mailers {
        mailer.start_again().await?;
    }
    case.start_steady_load()?;
    let before = case.rig.database.lost_workers().await?;
    let requeued = "SELECT count(*) AS value FROM tasks WHERE requeued_at IS NOT NULL";
    case.wait_for_number(requeued, LOST).await?;
    for victim in 0..MAILERS {
        case.wait_for_acceptances(BETWEEN).await?;
        case.rig.stack.mailers[victim].kill9().await?;
        case.note_in_flight().await?;
        // Once, and early: from then on both reapers have watched every worker that dies.
        if victim == 0 {
            let second = case.rig.stack.more_apis.first_mut();
            let second = second.context("no second api-service")?;
            second.kill9().await?;
            second.start_again().await?;
        }
        case.rig.stack.mailers[victim].start_again().await?;
    }
    case.recovered();
    case.wait_for_acceptances(BETWEEN).await?;
    case.end_load().await?;
    case.wait_for_deaths(before + MAILERS as u64).await?;
    case.wait_until_all_is_final().await?;
    let rescued = "SELECT count(*) AS value FROM task_attempts WHERE outcome = 'worker_lost'";
    let rescued = case.rig.database.number(rescued).await?;
    let requeued = case.rig.database.number(requeued).await?;
    ensure!(rescued > 0, "no worker had anything when it died");
    case.note(format!(
        "{requeued} tasks were published again by the reconcilers, {rescued} attempts rescued by the reapers"
    ));
    Ok(())
}
