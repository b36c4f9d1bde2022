//! Ends and deletes by age, in small batches, so that accepting does not notice.

use crate::queries::{audit, budgets, load, outbox, policy, replays, retention, workers};
use shared::{config::Config, db::Session, gate::Gate, threads};
use std::{thread::JoinHandle, time::Duration};
use tokio_util::sync::CancellationToken;

const PAUSE: Duration = Duration::from_secs(10);
const BETWEEN_BATCHES: Duration = Duration::from_millis(100);
const BATCH: i64 = 1000;

pub(crate) fn spawn(
    config: &Config,
    ready: Gate,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let mut session = Session::new(&config.database);
    let retention = config.retention.clone();
    let hours = config.accept.idempotency_hours;
    threads::spawn("janitor", move || {
        if !ready.wait() {
            return;
        }
        while threads::rest(&stop, PAUSE) {
            batches(&mut session, &stop, "expired tasks", |c| {
                retention::expire(c, BATCH)
            });
            batches(&mut session, &stop, "old idempotency keys", |c| {
                retention::forget_keys(c, hours, BATCH)
            });
            if retention.finished_days > 0 {
                batches(&mut session, &stop, "finished tasks", |c| {
                    retention::delete_finished(c, retention.finished_days, retention.batch)
                });
                batches(&mut session, &stop, "tasks of replays", |c| {
                    replays::forget_tasks(c, retention.finished_days, BATCH)
                });
            }
            if retention.audit_days > 0 {
                batches(&mut session, &stop, "audit lines", |c| {
                    audit::forget(c, retention.audit_days, BATCH)
                });
                batches(&mut session, &stop, "counts of quotas", |c| {
                    budgets::forget_usage(c, retention.audit_days, BATCH)
                });
                batches(&mut session, &stop, "tasks of replays", |c| {
                    replays::forget_tasks(c, retention.audit_days, BATCH)
                });
                batches(&mut session, &stop, "replays", |c| {
                    replays::forget(c, retention.audit_days, BATCH)
                });
            }
            batches(&mut session, &stop, "old rates", |c| {
                load::forget_rates(c, BATCH)
            });
            batches(&mut session, &stop, "idle limits", |c| {
                policy::forget_idle(c, BATCH)
            });
            batches(&mut session, &stop, "old workers", |c| {
                workers::forget_old(c).map(|_| 0)
            });
            if let Ok((count, seconds)) = session.run(outbox::overdue) {
                #[expect(clippy::cast_precision_loss, reason = "counted up to 10,000")]
                metrics::gauge!("warren_outbox_overdue").set(count as f64);
                metrics::gauge!("warren_outbox_overdue_seconds").set(seconds.max(0.0));
            }
        }
    })
}

/// Repeats a batch until it finds nothing more.
fn batches(
    session: &mut Session,
    stop: &CancellationToken,
    what: &str,
    mut batch: impl FnMut(&mut diesel::PgConnection) -> diesel::QueryResult<usize>,
) {
    loop {
        match session.run(&mut batch) {
            Ok(0) => return,
            Ok(count) => metrics::counter!("warren_janitor_rows_total", "what" => what.to_owned())
                .increment(count as u64),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cleaning up {what} waits for the next round"
                );
                return;
            }
        }
        if !threads::rest(stop, BETWEEN_BATCHES) {
            return;
        }
    }
}
