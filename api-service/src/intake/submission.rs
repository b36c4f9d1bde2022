//! What a request hands to the intake: checked tasks, stored together or not at all.

use chrono::{DateTime, Utc};
use shared::{
    fields::FieldError,
    files::FileId,
    kinds::KindInfo,
    suppression,
    task::{OnWorkerLost, Priority, Queue, Status, TaskId},
};
use std::time::Duration;
use uuid::Uuid;

/// A task's own time limits, in seconds; none: its kind's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeLimits {
    pub soft_s: Option<i32>,
    pub hard_s: Option<i32>,
}

impl TimeLimits {
    /// Those asked for, checked; errors are added to `errors`.
    pub fn of(
        soft_s: Option<i64>,
        hard_s: Option<i64>,
        kind: &KindInfo,
        most: u32,
        errors: &mut Vec<FieldError>,
    ) -> Self {
        let mut check = |pointer: &str, asked: Option<i64>| {
            let asked = asked?;
            let fits = (1..=i64::from(most)).contains(&asked);
            let seconds = i32::try_from(asked).ok().filter(|_| fits);
            if seconds.is_none() {
                let detail = format!("must be 1 to {most} seconds (limits.max_time_limit_s)");
                errors.push(FieldError::new(pointer, detail));
            }
            seconds
        };
        let soft = check("/soft_time_limit_s", soft_s);
        let hard_s = check("/hard_time_limit_s", hard_s);
        let usual = |limit: Duration| i32::try_from(limit.as_secs()).unwrap_or(i32::MAX);
        let hard = hard_s.unwrap_or(usual(kind.limits.hard));
        if soft.is_some_and(|soft| soft > hard) {
            let detail = format!("must not exceed the hard limit, {hard} seconds");
            errors.push(FieldError::new("/soft_time_limit_s", detail));
        }
        // The signal comes before the end, also when the end alone was moved.
        let soft_s = soft.or_else(|| hard_s.map(|hard| hard.min(usual(kind.limits.soft))));
        Self { soft_s, hard_s }
    }
}

/// Why a task is not to be done: an error code and a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub code: &'static str,
    pub message: &'static str,
}

impl Refusal {
    /// Of a mail to somebody who gets none.
    pub const SUPPRESSED: Self = Self {
        code: suppression::SUPPRESSED,
        message: "the recipient gets no such mails (GET /suppressions says why); nothing was sent",
    };
}

/// A task as it will be stored.
#[derive(Debug, Clone)]
pub struct NewTask {
    pub id: TaskId,
    pub kind: &'static KindInfo,
    pub queue: Queue,
    pub priority: Priority,
    /// The payload in its stored form, from [`KindInfo::accept`].
    pub payload: String,
    /// Seconds from its end until its content is removed; none: with the task.
    pub content_ttl_s: Option<i32>,
    /// What it needs of the file store.
    pub files: Vec<FileId>,
    /// It ends at once, CANCELLED, and nobody does it.
    pub refusal: Option<Refusal>,
    pub max_attempts: u16,
    pub time_limits: TimeLimits,
    pub on_worker_lost: OnWorkerLost,
    pub tags: Vec<String>,
    /// Whose shared limits it counts against.
    pub limit_key: Option<String>,
    /// Seconds from its end until its result is removed.
    pub result_ttl_s: Option<i32>,
    /// Not before then; a time in the future makes the task SCHEDULED.
    pub run_at: Option<DateTime<Utc>>,
    pub useful_until: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub created_by: Uuid,
    pub traceparent: Option<String>,
}

impl NewTask {
    /// When the task becomes due, if that is not now.
    pub fn due_at(&self) -> Option<DateTime<Utc>> {
        let run_at = self.run_at.filter(|run_at| *run_at > self.created_at);
        run_at.filter(|_| self.refusal.is_none())
    }

    pub fn status(&self) -> Status {
        if self.refusal.is_some() {
            Status::Cancelled
        } else if self.due_at().is_some() {
            Status::Scheduled
        } else {
            Status::Pending
        }
    }
}

/// The answer to remember under an `Idempotency-Key`.
#[derive(Debug, Clone)]
pub struct Idempotency {
    pub api_key_id: Uuid,
    pub key: String,
    /// SHA-256 of method, path and body.
    pub request_hash: Vec<u8>,
    pub answer: Answer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub location: Option<String>,
    pub body: String,
}

/// The tasks of one request, stored together or not at all.
#[derive(Debug, Clone)]
pub struct Submission {
    pub tasks: Vec<NewTask>,
    pub idempotency: Option<Idempotency>,
}

impl Submission {
    /// About what it takes in memory, and in the statement that stores it.
    pub(super) fn bytes(&self) -> usize {
        const ROW: usize = 512;
        let tasks: usize = self.tasks.iter().map(|task| ROW + task.payload.len()).sum();
        let answer = self.idempotency.as_ref();
        tasks + answer.map_or(0, |idempotency| idempotency.answer.body.len())
    }
}
