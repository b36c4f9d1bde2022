//! A mailer sleeps for longer than its lease beside two others, then wakes and says what became of what it ran.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{DRAIN, MIDWAY, SLOW};
use crate::faults::case::Case;
use crate::rig::POLL;

const OTHERS: usize = 2;
/// Longer than the lease (15 s) and the reaper's look (1 s).
const BEYOND_LEASE: Duration = Duration::from_secs(24);
/// For what the sleeper has to say.
const LAST_WORDS: Duration = Duration::from_secs(30);

pub(super) async fn play(case: &mut Case<'_>) -> Result<()> {
    for _ in 0..OTHERS {
        case.rig.stack.add_mailer().await?;
    }
    case.queue_mails(DRAIN).await?;
    case.rig.sink.slow(SLOW).await?;
    for mailer in &mut case.rig.stack.mailers {
        mailer.start_again().await?;
    }
    case.wait_for_mails(MIDWAY).await?;
    case.rig.mailer()?.freeze();
    case.note_in_flight().await?;
    tokio::time::sleep(BEYOND_LEASE).await;
    case.rig.mailer()?.thaw();
    case.recovered();
    let fenced = wait_for_the_fence(case).await?;
    case.note(format!(
        "{fenced} outcomes of the frozen worker came too late and changed nothing"
    ));
    Ok(())
}

/// What it ran had been taken over, so the fence must have held something off.
async fn wait_for_the_fence(case: &mut Case<'_>) -> Result<f64> {
    let begin = Instant::now();
    loop {
        let sleeper = case.rig.mailer()?;
        let fenced = sleeper.counter("warren_tasks_fenced_total").await?;
        if fenced > 0.0 {
            // Its other outcomes come at about the same moment.
            tokio::time::sleep(POLL * 10).await;
            return sleeper.counter("warren_tasks_fenced_total").await;
        }
        if begin.elapsed() > LAST_WORDS {
            bail!("nothing that the thawed worker said was fenced off");
        }
        tokio::time::sleep(POLL).await;
    }
}
