//! Ends and deletes by age, in small batches, so that accepting does not notice.
//!
//! Every chore has a batch in each round; those that found a full one go on by turns until the next round is due. So
//! none waits for another to be through with its backlog, which under load may be never.

mod turns;

use crate::{
    archive::{self, Archive, ArchiveError},
    queries::{
        audit, budgets, erasures, export, files as queries_files, load, outbox, policy, replays,
        retention, suppressions, verifications, workers,
    },
};
use chrono::TimeDelta;
use diesel::{PgConnection, QueryResult};
use shared::{
    config::{Config, Retention},
    db::{DbError, Session},
    files::{FileId, Files},
    gate::Gate,
    threads,
};
use std::{
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

const BETWEEN_BATCHES: Duration = Duration::from_millis(100);
const BATCH: i64 = 1000;
/// They are deleted one by one.
const FILES: i64 = 100;
/// For one file, and for a batch of them.
const FILE_LIMIT: Duration = Duration::from_secs(5);

/// Why a batch was not done; the next round tries again.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// Ends or deletes up to [`BATCH`] rows.
type Batch = Box<dyn Fn(&mut PgConnection) -> QueryResult<usize> + Send>;

enum Chore {
    Rows(&'static str, Batch),
    /// Deletes finished tasks, or moves them into the archive.
    Finished,
}

impl Chore {
    fn rows(
        what: &'static str,
        batch: impl Fn(&mut PgConnection) -> QueryResult<usize> + Send + 'static,
    ) -> Self {
        Self::Rows(what, Box::new(batch))
    }
}

fn chores(config: &Config, files: Option<Files>) -> Vec<Chore> {
    let hours = config.accept.idempotency_hours;
    let audit_days = config.retention.audit_days;
    let keep_days = config.verification.keep_days;
    let finished_days = config.retention.finished_days;
    // From a task's id to its commit, and what clocks may differ by.
    let margin = config.accept.patience_ms.saturating_mul(2).min(3_600_000);
    let margin = TimeDelta::milliseconds(i64::try_from(margin).unwrap_or_default() + 1000)
        + TimeDelta::from_std(Duration::from_secs_f64(
            config.rescue.clock_skew_s.clamp(0.0, 3600.0) * 2.0,
        ))
        .unwrap_or_default();
    let mut chores = vec![
        Chore::rows("expired tasks", |c| retention::expire(c, BATCH)),
        Chore::rows("expired results", |c| retention::expire_results(c, BATCH)),
        Chore::rows("expired content", |c| retention::expire_content(c, BATCH)),
        Chore::rows("expired suppressions", |c| {
            suppressions::forget_expired(c, BATCH)
        }),
        Chore::rows("old verifications", move |c| {
            verifications::clean(c, keep_days, BATCH)
        }),
        Chore::rows("tasks of erased users", move |c| {
            erasures::step(c, BATCH, margin)
        }),
        Chore::rows("old idempotency keys", move |c| {
            retention::forget_keys(c, hours, BATCH)
        }),
        Chore::Finished,
        Chore::rows("old rates", |c| load::forget_rates(c, BATCH)),
        Chore::rows("idle limits", |c| policy::forget_idle(c, BATCH)),
        Chore::rows("old workers", |c| workers::forget_old(c).map(|_| 0)),
    ];
    if let Some((files, runtime)) = files.zip(Handle::try_current().ok()) {
        let hours = config.files.keep_hours;
        chores.push(Chore::rows("unused files", move |c| {
            delete_files(c, hours, &files, &runtime)
        }));
    }
    if audit_days > 0 {
        chores.extend([
            Chore::rows("audit lines", move |c| audit::forget(c, audit_days, BATCH)),
            Chore::rows("counts of quotas", move |c| {
                budgets::forget_usage(c, audit_days, BATCH)
            }),
            Chore::rows("erasures", move |c| erasures::forget(c, audit_days, BATCH)),
            Chore::rows("replays", move |c| replays::forget(c, audit_days, BATCH)),
        ]);
    }
    // Whichever is over first, of those that are set.
    let days = [audit_days, finished_days]
        .into_iter()
        .filter(|days| *days > 0);
    if let Some(days) = days.min() {
        chores.push(Chore::rows("tasks of replays", move |c| {
            replays::forget_tasks(c, days, BATCH)
        }));
    }
    chores
}

/// One batch of files that nobody needs. A store that does not answer is left alone until the next round.
fn delete_files(
    connection: &mut PgConnection,
    hours: u32,
    files: &Files,
    runtime: &Handle,
) -> QueryResult<usize> {
    let delete = |id: &FileId| {
        let deleting = async { tokio::time::timeout(FILE_LIMIT, files.delete(id)).await };
        match runtime.block_on(deleting) {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a file that nobody needs could not be deleted"
                );
                false
            }
            Err(_) => {
                tracing::warn!("a file that nobody needs could not be deleted in time");
                false
            }
        }
    };
    let begin = Instant::now();
    let unused = queries_files::take_unused(connection, hours, FILES)?;
    let is_full = i64::try_from(unused.len()).is_ok_and(|count| count == FILES);
    for id in unused {
        if begin.elapsed() > FILE_LIMIT || !queries_files::remove(connection, &id, hours, &delete)?
        {
            return Ok(0);
        }
    }
    let more = if is_full { BATCH } else { 0 };
    Ok(usize::try_from(more).unwrap_or_default())
}

/// Must be called in a tokio runtime where there are files.
pub(crate) fn spawn(
    config: &Config,
    files: Option<Files>,
    ready: Gate,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let mut janitor = Janitor {
        session: Session::new(&config.database),
        archive: archive::open(&config.retention),
        archive_failed: false,
        retention: config.retention.clone(),
        stop,
    };
    let mut chores = chores(config, files);
    let pause = Duration::from_secs(config.retention.every_s.max(1));
    threads::spawn("janitor", move || {
        if !ready.wait() {
            return;
        }
        while threads::rest(&janitor.stop, pause) {
            while janitor.round(&mut chores, pause) {}
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
    stop: CancellationToken,
}

impl Janitor {
    /// True: time is up, and there is more to do.
    fn round(&mut self, chores: &mut [Chore], time: Duration) -> bool {
        self.measure();
        let end = Instant::now() + time;
        let stop = self.stop.clone();
        let goes_on = || threads::rest(&stop, BETWEEN_BATCHES) && Instant::now() < end;
        let is_left = turns::take(chores, |chore| self.once(chore), goes_on);
        is_left && !self.stop.is_cancelled()
    }

    fn measure(&mut self) {
        if let Ok((count, seconds)) = self.session.run(outbox::overdue) {
            #[expect(clippy::cast_precision_loss, reason = "counted up to 10,000")]
            metrics::gauge!("warren_outbox_overdue").set(count as f64);
            metrics::gauge!("warren_outbox_overdue_seconds").set(seconds.max(0.0));
        }
    }

    /// One batch. True: there may be more.
    fn once(&mut self, chore: &Chore) -> bool {
        match chore {
            Chore::Rows(what, batch) => match self.session.run(batch) {
                Ok(count) => {
                    note(what, count);
                    i64::try_from(count).is_ok_and(|count| count >= BATCH)
                }
                Err(error) => {
                    warn(what, &error);
                    false
                }
            },
            Chore::Finished => self.finished(),
        }
    }

    fn finished(&mut self) -> bool {
        const WHAT: &str = "finished tasks";
        let (days, limit) = (self.retention.finished_days, self.retention.batch);
        let Some(mut archive) = self.archive.take() else {
            if days == 0 {
                return false;
            }
            let deleted = self
                .session
                .run(|connection| retention::delete_finished(connection, days, limit));
            return match deleted {
                Ok(count) => {
                    note(WHAT, count);
                    count >= limit as usize
                }
                Err(error) => {
                    warn(WHAT, &error);
                    false
                }
            };
        };
        let moved = self.archive(archive.as_mut(), days, limit);
        self.archive = Some(archive);
        let (count, is_cut) = *moved.as_ref().unwrap_or(&(0, false));
        note(WHAT, count);
        self.note_archive(moved.map(|_| ()));
        is_cut
    }

    /// How many were moved, and whether there may be more.
    fn archive(
        &mut self,
        archive: &mut dyn Archive,
        days: u32,
        limit: u32,
    ) -> Result<(usize, bool), Trouble> {
        archive.tend(chrono::Utc::now().date_naive())?;
        if days == 0 {
            return Ok((0, false));
        }
        let moved = self
            .session
            .run(|connection| export::export_finished(connection, archive, days, limit))??;
        Ok((moved.count, moved.is_cut))
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
}

fn note(what: &'static str, count: usize) {
    metrics::counter!("warren_janitor_rows_total", "what" => what).increment(count as u64);
}

fn warn(what: &str, error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(error = error, "cleaning up {what} waits for the next round");
}
