//! Ends and deletes by age, in small batches, so that accepting does not notice.

use crate::{
    archive::{self, Archive, ArchiveError},
    queries::{audit, budgets, export, load, outbox, policy, replays, retention, workers},
};
use diesel::{PgConnection, QueryResult};
use shared::{
    config::{Config, Retention},
    db::{DbError, Session},
    gate::Gate,
    threads,
};
use std::{thread::JoinHandle, time::Duration};
use tokio_util::sync::CancellationToken;

const BETWEEN_BATCHES: Duration = Duration::from_millis(100);
const BATCH: i64 = 1000;

/// Why a batch was not done; the next round tries again.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

pub(crate) fn spawn(
    config: &Config,
    ready: Gate,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let mut janitor = Janitor {
        session: Session::new(&config.database),
        archive: archive::open(&config.retention),
        archive_failed: false,
        retention: config.retention.clone(),
        idempotency_hours: config.accept.idempotency_hours,
        stop,
    };
    let pause = Duration::from_secs(config.retention.every_s.max(1));
    threads::spawn("janitor", move || {
        if !ready.wait() {
            return;
        }
        while threads::rest(&janitor.stop, pause) {
            janitor.round();
        }
    })
}

struct Janitor {
    session: Session,
    /// None: finished tasks are just deleted.
    archive: Option<Box<dyn Archive>>,
    /// The log knows.
    archive_failed: bool,
    retention: Retention,
    idempotency_hours: u32,
    stop: CancellationToken,
}

impl Janitor {
    fn round(&mut self) {
        let hours = self.idempotency_hours;
        self.rows("expired tasks", |c| retention::expire(c, BATCH));
        self.rows("expired results", |c| retention::expire_results(c, BATCH));
        self.rows("old idempotency keys", |c| {
            retention::forget_keys(c, hours, BATCH)
        });
        self.finished();
        let days = self.retention.audit_days;
        if days > 0 {
            self.rows("audit lines", |c| audit::forget(c, days, BATCH));
            self.rows("counts of quotas", |c| {
                budgets::forget_usage(c, days, BATCH)
            });
            self.rows("tasks of replays", |c| {
                replays::forget_tasks(c, days, BATCH)
            });
            self.rows("replays", |c| replays::forget(c, days, BATCH));
        }
        let finished_days = self.retention.finished_days;
        if finished_days > 0 {
            self.rows("tasks of replays", |c| {
                replays::forget_tasks(c, finished_days, BATCH)
            });
        }
        self.rows("old rates", |c| load::forget_rates(c, BATCH));
        self.rows("idle limits", |c| policy::forget_idle(c, BATCH));
        self.rows("old workers", |c| workers::forget_old(c).map(|_| 0));
        if let Ok((count, seconds)) = self.session.run(outbox::overdue) {
            #[expect(clippy::cast_precision_loss, reason = "counted up to 10,000")]
            metrics::gauge!("warren_outbox_overdue").set(count as f64);
            metrics::gauge!("warren_outbox_overdue_seconds").set(seconds.max(0.0));
        }
    }

    fn finished(&mut self) {
        let (days, limit) = (self.retention.finished_days, self.retention.batch);
        let archive = self.archive.take();
        match archive {
            None if days > 0 => self.rows("finished tasks", |c| {
                retention::delete_finished(c, days, limit)
            }),
            None => {}
            Some(mut archive) => {
                let tended = archive.tend(chrono::Utc::now().date_naive());
                let moved = tended.map_err(Trouble::from).and_then(|()| {
                    if days == 0 {
                        return Ok(());
                    }
                    self.batches("finished tasks", |session| {
                        let moved = session.run(|connection| {
                            export::export_finished(connection, archive.as_mut(), days, limit)
                        });
                        Ok(moved??)
                    })
                });
                self.archive = Some(archive);
                self.note_archive(moved);
            }
        }
    }

    /// A disk that stays full is told of once; the counter goes on.
    fn note_archive(&mut self, moved: Result<(), Trouble>) {
        match moved {
            Ok(()) if self.archive_failed => {
                self.archive_failed = false;
                tracing::info!("the archive takes finished tasks again");
            }
            Ok(()) => {}
            Err(Trouble::Database(error)) => warn("finished tasks", &error),
            Err(Trouble::Archive(error)) => {
                metrics::counter!("warren_archive_failures_total").increment(1);
                if !self.archive_failed {
                    self.archive_failed = true;
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "finished tasks can't be archived, so none are deleted until they can"
                    );
                }
            }
        }
    }

    fn rows(&mut self, what: &str, mut batch: impl FnMut(&mut PgConnection) -> QueryResult<usize>) {
        if let Err(error) = self.batches(what, |session| Ok(session.run(&mut batch)?)) {
            warn(what, &error);
        }
    }

    /// Repeats a batch until it finds nothing more.
    fn batches(
        &mut self,
        what: &str,
        mut batch: impl FnMut(&mut Session) -> Result<usize, Trouble>,
    ) -> Result<(), Trouble> {
        loop {
            let count = batch(&mut self.session)?;
            if count == 0 {
                return Ok(());
            }
            metrics::counter!("warren_janitor_rows_total", "what" => what.to_owned())
                .increment(count as u64);
            if !threads::rest(&self.stop, BETWEEN_BATCHES) {
                return Ok(());
            }
        }
    }
}

fn warn(what: &str, error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(error = error, "cleaning up {what} waits for the next round");
}
