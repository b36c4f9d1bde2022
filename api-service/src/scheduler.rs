//! Wakes tasks whose due time in PostgreSQL has come: SCHEDULED ones, and retries with a long wait. Adds what was accepted
//! to the rates by the way.

use crate::{accepted::Accepted, queries::outbox::PromoteDue};
use shared::{config::Config, db::Session, gate::Gate, publisher::Publisher, threads, topology};
use std::{
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const PAUSE: Duration = Duration::from_millis(200);
const BATCH: i64 = 1000;
/// How often what was accepted is added to the rates.
const RATES: Duration = Duration::from_secs(5);

pub(crate) fn spawn(
    config: &Config,
    publisher: Publisher,
    accepted: Accepted,
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
        let mut rates_at = Instant::now() + RATES;
        loop {
            if Instant::now() >= rates_at {
                rates_at = Instant::now() + RATES;
                write_rates(&mut session, &accepted);
            }
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

/// Figures for people: what can't be written is left out.
fn write_rates(session: &mut Session, accepted: &Accepted) {
    let Some(add) = accepted.take() else { return };
    if let Err(error) = session.run(|connection| add.run(connection)) {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "the rates could not be written"
        );
    }
}
