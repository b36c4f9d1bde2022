//! A claimed task on its way through this process.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use shared::{
    address::EmailAddress,
    kinds,
    outbox::Subject,
    task::{Lane, Limits, OnWorkerLost, Queue, TaskId},
};
use std::time::Duration;

/// What the claim returned.
#[derive(Debug, Clone)]
pub struct Claimed {
    pub id: TaskId,
    /// The number of this attempt, from 1; together with the id it is the fence.
    pub attempt: i32,
    pub max_attempts: i32,
    /// Attempts that were given back or lie before the latest replay, which count neither for `max_attempts` nor for the backoff.
    pub forgiven: i32,
    pub kind: String,
    pub queue: Queue,
    pub lane: Lane,
    /// JSON.
    pub payload: String,
    pub on_worker_lost: OnWorkerLost,
    /// As the caller asked; may lie in the past.
    pub run_at: Option<DateTime<Utc>>,
    /// From the claim on.
    pub useful_for: Option<Duration>,
    pub started_at: Option<DateTime<Utc>>,
    pub traceparent: Option<String>,
    /// The task's own limits, in seconds.
    pub soft_limit_s: Option<i32>,
    pub hard_limit_s: Option<i32>,
    /// It counts against a limit of running attempts, so its end makes room.
    pub limited: bool,
}

impl Claimed {
    /// The task's own limits where it has some, else its kind's.
    pub fn limits(&self) -> Limits {
        let kind = kinds::find(&self.kind).map_or(Limits::DEFAULT, |kind| kind.limits);
        let seconds = |own: Option<i32>| {
            let own = u64::try_from(own?).ok()?;
            Some(Duration::from_secs(own))
        };
        Limits {
            soft: seconds(self.soft_limit_s).unwrap_or(kind.soft),
            hard: seconds(self.hard_limit_s).unwrap_or(kind.hard),
        }
    }

    /// What a message about `attempt` of this task says.
    pub fn subject(&self, attempt: i32) -> Subject<'_> {
        Subject {
            task: self.id,
            attempt,
            kind: &self.kind,
            queue: self.queue,
            lane: self.lane,
            traceparent: self.traceparent.as_deref(),
        }
    }
}

/// What went wrong, for the task's `error`. The text reaches users and operators: no secrets, no addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Stable, for machines, e.g. `smtp_permanent`.
    pub code: &'static str,
    pub message: String,
    /// There is no such mailbox: no more mails go there.
    pub hard_bounce: Option<Box<EmailAddress>>,
}

impl Failure {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hard_bounce: None,
        }
    }
}

/// How a handler says that an attempt did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskError {
    /// Another attempt may succeed; the kind's backoff says when.
    Retry(Failure),
    /// Not before that long.
    RetryAfter(Duration, Failure),
    /// No attempt will succeed.
    Fail(Failure),
    /// It must not be done: CANCELLED, and no dead letter.
    Decline(Failure),
    /// The work may have been done or not; nobody can tell. Tried again, unless the task asks to be held.
    Unclear(Failure),
    /// The context was cancelled before anything was done: given back as it was.
    Interrupted,
    /// Not yet, for reasons that are not its own: put aside for that long, and no attempt is used up.
    PutOff(Duration, Failure),
    /// This process can't do it, whatever the task says: put aside for a process that can, and no attempt is used up.
    Park(Failure),
}

/// The end of one attempt.
#[derive(Debug)]
pub enum Verdict {
    /// The result, as JSON.
    Completed(Box<RawValue>),
    Failed(TaskError),
    /// Not begun, because this process stops: given back.
    Released,
    /// Dropped half-way, because this process stops: the work may have been done.
    Dropped,
}
