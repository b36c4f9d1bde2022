//! The relay publishes what its writer could not: after a crash, a broker outage, a lost confirm. Every
//! replica runs one; `SKIP LOCKED` and the moved `publish_after` share the rows out among them.

use crate::queries::outbox::TakeOverdue;
use shared::{
    broker::LinkState, config::Config, db::Session, gate::Gate, publisher::Publisher, threads,
};
use std::{thread::JoinHandle, time::Duration};
use tokio_util::sync::CancellationToken;

/// The pause while nothing is overdue.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) fn spawn(
    config: &Config,
    publisher: Publisher,
    ready: Gate,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let mut session = Session::new(&config.database);
    let take = TakeOverdue {
        again_seconds: Duration::from_millis(config.outbox.relay_again_ms.into()).as_secs_f64(),
        limit: i64::from(config.outbox.relay_batch),
    };
    threads::spawn("outbox-relay", move || {
        if !ready.wait() {
            return;
        }
        let link = publisher.link();
        loop {
            // While the broker is away, rows stay untouched and due, ready for the moment it is back.
            let mut full = false;
            if *link.borrow() == LinkState::Up {
                match session
                    .run_until(&stop, "the outbox relay", |connection| take.run(connection))
                {
                    Some(Ok(rows)) => {
                        full = i64::try_from(rows.len()).is_ok_and(|count| count == take.limit);
                        if !rows.is_empty() {
                            metrics::counter!("warren_outbox_relayed_total")
                                .increment(rows.len() as u64);
                            publisher.publish_blocking(rows, &stop);
                        }
                    }
                    Some(Err(error)) => tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the outbox could not be read"
                    ),
                    None => return,
                }
            }
            if stop.is_cancelled() || (!full && !threads::rest(&stop, PAUSE)) {
                return;
            }
        }
    })
}
