//! Group commit at the door: requests wait in a bounded queue, one plain thread takes whatever is waiting
//! and commits it in one statement, and each request is answered when its rows are on disk.
//!
//! Nothing waits for a batch to fill: under load batches form by themselves, and a lone request is not
//! delayed. What was committed goes straight to the publisher; the relay is there for what gets lost.

mod submission;

pub use submission::{Answer, Idempotency, NewTask, Refusal, Submission, TimeLimits};

use crate::{
    accepted::Accepted,
    queries::accept::{self, Accept},
};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use shared::{
    config::Config,
    db::{DbError, Session, is_about_data},
    gate::Gate,
    outbox::{OutboxRow, Route, Subject},
    publisher::Publisher,
};
use std::{
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Committed to disk.
    Stored,
    /// This request was answered before; this is that answer.
    Replayed(Answer),
    /// The key was used for another request.
    KeyReused,
}

#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error("too many requests are waiting to be stored")]
    Full,
    #[error("the tasks could not be stored")]
    Refused(#[source] DieselError),
    /// The database was away for longer than `accept.patience_ms`.
    #[error("the tasks could not be stored: the database is not there")]
    Unavailable,
    #[error("the service is stopping")]
    Stopping,
}

type Reply = oneshot::Sender<Result<Outcome, IntakeError>>;

struct Job {
    submission: Submission,
    reply: Reply,
    since: Instant,
    bytes: usize,
    /// Given back when the submission is stored or refused.
    room: OwnedSemaphorePermit,
}

/// The unit in which waiting bytes are counted.
const KIBIBYTE: usize = 1024;

/// A handle to the intake thread.
#[derive(Clone)]
pub struct Intake {
    jobs: SyncSender<Job>,
    /// Kibibytes that may wait.
    room: Arc<Semaphore>,
    most_kibibytes: usize,
    patience: Duration,
    after: Aftermath,
}

impl Intake {
    /// Starts the thread. It ends when every handle is gone.
    pub fn spawn(
        config: &Config,
        publisher: Publisher,
        accepted: Accepted,
        ready: Gate,
        stop: CancellationToken,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, waiting) = sync_channel(config.accept.queue_capacity);
        let patience = Duration::from_millis(config.accept.patience_ms);
        let after = Aftermath {
            relay_after: Duration::from_millis(config.outbox.relay_after_ms.into()),
            publisher,
            accepted,
        };
        let thread = Thread {
            session: Session::new(&config.database),
            max_batch: config.accept.max_batch,
            max_batch_bytes: config.accept.max_batch_bytes,
            result_ttl_s: config.retention.result_ttl_s(),
            patience,
            after: after.clone(),
            stop,
        };
        let handle = shared::threads::spawn("intake", move || {
            if ready.wait() {
                thread.run(&waiting);
            }
        })?;
        let most_kibibytes = (config.accept.queue_bytes / KIBIBYTE)
            .clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let intake = Self {
            jobs,
            room: Arc::new(Semaphore::new(most_kibibytes)),
            most_kibibytes,
            patience,
            after,
        };
        Ok((intake, handle))
    }

    /// To be told of tasks that somebody else has stored, by the same statement within a transaction.
    pub fn note(&self, stored: &[NewTask]) {
        self.after.note(stored);
    }

    /// Stores the tasks; returns once they are on disk, or were found to be there already.
    pub async fn submit(&self, submission: Submission) -> Result<Outcome, IntakeError> {
        let (reply, answer) = oneshot::channel();
        let since = Instant::now();
        let bytes = submission.bytes();
        // One that is larger than all the room there is may pass alone.
        let kibibytes = bytes.div_ceil(KIBIBYTE).min(self.most_kibibytes);
        let room = Arc::clone(&self.room)
            .try_acquire_many_owned(u32::try_from(kibibytes).unwrap_or(u32::MAX))
            .map_err(|_| IntakeError::Full)?;
        self.jobs
            .try_send(Job {
                submission,
                reply,
                since,
                bytes,
                room,
            })
            .map_err(|error| match error {
                TrySendError::Full(_) => IntakeError::Full,
                TrySendError::Disconnected(_) => IntakeError::Stopping,
            })?;
        // The thread keeps to the patience itself; this is for a connection that hangs.
        match tokio::time::timeout(self.patience * 2, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(IntakeError::Stopping),
            Err(_) => Err(IntakeError::Unavailable),
        }
    }
}

struct Thread {
    session: Session,
    max_batch: usize,
    max_batch_bytes: usize,
    /// Of tasks that name none.
    result_ttl_s: Option<i32>,
    patience: Duration,
    after: Aftermath,
    stop: CancellationToken,
}

impl Thread {
    fn run(mut self, waiting: &Receiver<Job>) {
        while let Ok(first) = waiting.recv() {
            let mut bytes = first.bytes;
            let mut batch = vec![first];
            while batch.len() < self.max_batch
                && bytes < self.max_batch_bytes
                && let Ok(next) = waiting.try_recv()
            {
                bytes += next.bytes;
                batch.push(next);
            }
            self.store(batch);
        }
    }

    fn store(&mut self, mut batch: Vec<Job>) {
        // Who was answered 503 meanwhile may have tried again; storing this too would do the work twice.
        batch.retain(|job| !job.reply.is_closed());
        if batch.is_empty() {
            return;
        }
        let begin = Instant::now();
        let until = batch.first().map_or(begin, |oldest| oldest.since) + self.patience;
        let mut rooms = Vec::with_capacity(batch.len());
        let (submissions, replies): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|job| {
                rooms.push(job.room);
                (job.submission, job.reply)
            })
            .unzip();
        let outcomes = self.commit(&submissions, until);
        // Before the answers, so that who has one finds room for the next.
        drop(rooms);
        metrics::histogram!("warren_accept_commit_seconds").record(begin.elapsed().as_secs_f64());
        #[expect(
            clippy::cast_precision_loss,
            reason = "a batch has a few hundred requests"
        )]
        metrics::histogram!("warren_accept_batch_size").record(submissions.len() as f64);
        let mut stored = Vec::new();
        for ((submission, reply), outcome) in submissions.into_iter().zip(replies).zip(outcomes) {
            if matches!(outcome, Ok(Outcome::Stored)) {
                stored.extend(submission.tasks);
            }
            // A caller who has gone away finds the task by its idempotency key.
            let _gone = reply.send(outcome);
        }
        self.after.note(&stored);
    }

    /// One outcome for each submission. A batch that PostgreSQL refuses is split, so that one bad row
    /// fails its own request and no other.
    fn commit(
        &mut self,
        submissions: &[Submission],
        until: Instant,
    ) -> Vec<Result<Outcome, IntakeError>> {
        let statement = Accept::new(submissions, self.after.relay_after, self.result_ttl_s);
        let mut repeated = false;
        loop {
            let run = self.session.run(|connection| {
                let earlier =
                    repeated.then(|| accept::committed(connection, &statement, submissions));
                match earlier.transpose()?.flatten() {
                    Some(outcomes) => Ok(outcomes),
                    None => accept::run(connection, &statement, submissions),
                }
            });
            repeated = true;
            match run {
                Ok(outcomes) => return outcomes.into_iter().map(Ok).collect(),
                Err(DbError::Refused(error)) if is_about_data(&error) => {
                    return self
                        .stored_after_all(&statement, submissions, &error)
                        .unwrap_or_else(|| self.split(submissions, until, error));
                }
                Err(error) => {
                    if self.stop.is_cancelled() || Instant::now() >= until {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "requests are refused: the database is away"
                        );
                        return submissions
                            .iter()
                            .map(|_| Err(IntakeError::Unavailable))
                            .collect();
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    /// The outcomes, if an earlier try took effect only after it was asked whether it had: then these rows are in their
    /// own way.
    fn stored_after_all(
        &mut self,
        statement: &Accept,
        submissions: &[Submission],
        error: &DieselError,
    ) -> Option<Vec<Result<Outcome, IntakeError>>> {
        let is_there = DatabaseErrorKind::UniqueViolation;
        if !matches!(error, DieselError::DatabaseError(kind, _) if *kind == is_there) {
            return None;
        }
        let committed = self
            .session
            .run(|connection| accept::committed(connection, statement, submissions));
        Some(committed.ok()??.into_iter().map(Ok).collect())
    }

    fn split(
        &mut self,
        submissions: &[Submission],
        until: Instant,
        error: DieselError,
    ) -> Vec<Result<Outcome, IntakeError>> {
        if submissions.len() == 1 {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a request could not be stored"
            );
            return vec![Err(IntakeError::Refused(error))];
        }
        let (left, right) = submissions.split_at(submissions.len() / 2);
        let mut outcomes = self.commit(left, until);
        outcomes.extend(self.commit(right, until));
        outcomes
    }
}

/// What follows once tasks are on disk.
#[derive(Debug, Clone)]
struct Aftermath {
    publisher: Publisher,
    accepted: Accepted,
    relay_after: Duration,
}

impl Aftermath {
    fn note(&self, stored: &[NewTask]) {
        metrics::counter!("warren_tasks_accepted_total").increment(stored.len() as u64);
        self.accepted.note(stored);
        self.publish(stored);
    }

    fn publish(&self, stored: &[NewTask]) {
        let rows = stored
            .iter()
            .filter(|task| task.due_at().is_none() && task.refusal.is_none())
            .map(|task| self.message(task))
            .collect();
        self.publisher.offer(rows);
    }

    /// The message of the first attempt; its outbox row has the task's id.
    fn message(&self, task: &NewTask) -> OutboxRow {
        let subject = Subject {
            task: task.id,
            attempt: 1,
            kind: task.kind.name,
            queue: task.queue,
            lane: task.priority.lane(),
            traceparent: task.traceparent.as_deref(),
        };
        OutboxRow::with_id(
            task.id.0,
            &subject,
            Route::Tasks,
            task.created_at,
            self.relay_after,
        )
    }
}
