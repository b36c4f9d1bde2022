//! Wakes tasks whose due time in PostgreSQL has come: SCHEDULED ones, and retries with a long wait.

use crate::queries::outbox::PromoteDue;
use shared::{config::Config, db::Session, gate::Gate, publisher::Publisher, threads, topology};
use std::{thread::JoinHandle, time::Duration};
use tokio_util::sync::CancellationToken;

const PAUSE: Duration = Duration::from_millis(200);
const BATCH: i64 = 1000;

pub(crate) fn spawn(
    config: &Config,
    publisher: Publisher,
    ready: Gate,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let mut session = Session::new(&config.database);
    let promote = PromoteDue {
        limit: BATCH,
        exchange: topology::TASKS,
        relay_seconds: Duration::from_millis(config.outbox.relay_after_ms.into()).as_secs_f64(),
    };
    threads::spawn("scheduler", move || {
        if !ready.wait() {
            return;
        }
        loop {
            let mut full = false;
            match session.run_until(&stop, "the scheduler", |connection| promote.run(connection)) {
                Some(Ok(rows)) => {
                    full = i64::try_from(rows.len()).is_ok_and(|count| count == BATCH);
                    metrics::counter!("warren_tasks_promoted_total").increment(rows.len() as u64);
                    publisher.offer(rows);
                }
                Some(Err(error)) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "due tasks could not be woken"
                ),
                None => return,
            }
            if stop.is_cancelled() || (!full && !threads::rest(&stop, PAUSE)) {
                return;
            }
        }
    })
}
