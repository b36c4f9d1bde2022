//! Works replays off: failures that run again, a few first (the canary) and the rest at a chosen rate while enough of
//! them succeed.
//!
//! A replay is a row. Each step is one transaction that holds the row's lock: it notes what has become of the tasks, decides
//! and replays the next few, with its mark of how far it has come. So one replica at a time works on a replay, whichever
//! dies another goes on, and no task is replayed twice.

mod decision;
mod step;

pub use decision::{Outcomes, ReplayState};

use crate::queries::replays;
use shared::{config::Config, db::Session, gate::Gate, publisher::Publisher, threads};
use std::{thread::JoinHandle, time::Duration};
use tokio_util::sync::CancellationToken;

const PAUSE: Duration = Duration::from_millis(200);

pub(crate) fn spawn(
    config: &Config,
    publisher: Publisher,
    ready: Gate,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let mut session = Session::new(&config.database);
    let patience = Duration::from_millis(config.outbox.relay_after_ms.into());
    threads::spawn("replayer", move || {
        if !ready.wait() {
            return;
        }
        loop {
            let mut found = false;
            match session.run_until(&stop, "the replayer", |c| step::next(c, patience)) {
                Some(Ok(Some(done))) => {
                    found = true;
                    metrics::counter!("warren_tasks_replayed_total")
                        .increment(done.messages.len() as u64);
                    publisher.offer(done.messages);
                    if let Some((id, state, reason)) = done.ended {
                        let state = state.as_str();
                        metrics::counter!("warren_replays_total", "state" => state).increment(1);
                        tracing::info!(replay.id = %id, replay.state = state, "a replay ended: {reason}");
                    }
                }
                Some(Ok(None)) => {}
                Some(Err(error)) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "a replay can't go on; it is tried again in a minute"
                    );
                    if session.run(replays::put_off).is_err() {
                        tracing::debug!("nor could it be put off");
                    }
                }
                None => return,
            }
            if stop.is_cancelled() || (!found && !threads::rest(&stop, PAUSE)) {
                return;
            }
        }
    })
}
