//! From the end of an attempt to the task's next step: a pure decision.

use super::{Ended, parked};
use crate::{
    queries::settle::Settle,
    task::{Claimed, Failure, TaskError, Verdict},
};
use chrono::{DateTime, Utc};
use rand::{Rng, RngExt};
use shared::{
    backoff::{Backoff, Delay},
    kinds,
    outbox::{OutboxRow, Route},
    task::{OnWorkerLost, Status},
};
use std::{sync::LazyLock, time::Duration};

/// What the settlement writes for one task.
#[derive(Debug)]
pub(super) struct Step<'a> {
    status: Status,
    result: Option<&'a str>,
    failure: Option<&'a Failure>,
    /// Until the next attempt.
    delay: Option<Delay>,
    /// What `task_attempts` says of this attempt; the happy path leaves no row, and neither does [`PARKED`].
    outcome: Option<&'static str>,
    /// Its turn comes later, which is nobody's failure.
    is_put_off: bool,
}

/// Put aside: given back like what was released, for later. However often that happens, it leaves no rows.
const PARKED: &str = "parked";
/// A task that is put aside again waits twice as long, up to this often.
const LONGEST_PARK: u32 = 16;

static DROPPED: LazyLock<Failure> = LazyLock::new(|| {
    Failure::new(
        "interrupted",
        "the worker had to stop before this attempt ended, and its work may have been done",
    )
});

/// `park`: how long a task is put aside at first.
pub(super) fn next<'a>(ended: &'a Ended, park: Duration, rng: &mut impl Rng) -> Step<'a> {
    let task = &ended.task;
    match &ended.verdict {
        Verdict::Completed(result) => Step {
            status: Status::Completed,
            result: Some(result.get()),
            failure: None,
            delay: None,
            outcome: None,
            is_put_off: false,
        },
        Verdict::Released | Verdict::Failed(TaskError::Interrupted) => Step {
            status: Status::Pending,
            result: None,
            failure: None,
            delay: None,
            outcome: Some("released"),
            is_put_off: false,
        },
        // As after the death of a worker, the task's policy decides. A stop in good order uses up no attempt.
        Verdict::Dropped => match task.on_worker_lost {
            OnWorkerLost::Hold => Step {
                status: Status::Unknown,
                ..failed(&DROPPED)
            },
            OnWorkerLost::Fail => failed(&DROPPED),
            OnWorkerLost::Retry => Step {
                status: Status::Pending,
                result: None,
                failure: Some(&DROPPED),
                delay: None,
                outcome: Some("released"),
                is_put_off: false,
            },
        },
        Verdict::Failed(TaskError::Fail(failure)) => failed(failure),
        Verdict::Failed(TaskError::Decline(failure)) => Step {
            status: Status::Cancelled,
            ..failed(failure)
        },
        Verdict::Failed(TaskError::Park(failure)) => Step {
            outcome: Some(PARKED),
            ..retrying(failure, Delay::Until(park_again(task, park, rng)))
        },
        Verdict::Failed(TaskError::PutOff(wait, failure)) => Step {
            outcome: Some(PARKED),
            is_put_off: true,
            ..retrying(failure, Delay::Until(*wait))
        },
        Verdict::Failed(TaskError::Unclear(failure))
            if task.on_worker_lost == OnWorkerLost::Hold =>
        {
            Step {
                status: Status::Unknown,
                ..failed(failure)
            }
        }
        Verdict::Failed(
            TaskError::Retry(failure)
            | TaskError::RetryAfter(_, failure)
            | TaskError::Unclear(failure),
        ) if task.attempt >= task.max_attempts => failed(failure),
        Verdict::Failed(TaskError::Retry(failure) | TaskError::Unclear(failure)) => {
            retrying(failure, backoff(task, rng))
        }
        // The wait asked for is the least; later attempts back off further.
        Verdict::Failed(TaskError::RetryAfter(wait, failure)) => {
            let wait = backoff(task, rng).duration().max(*wait);
            retrying(failure, Delay::at_least(wait))
        }
    }
}

fn backoff(task: &Claimed, rng: &mut impl Rng) -> Delay {
    let backoff = kinds::find(&task.kind).map_or(Backoff::DEFAULT, |kind| kind.backoff);
    let failures = u32::try_from(task.attempt - task.forgiven).unwrap_or(1);
    backoff.wait_after(failures, rng)
}

/// Longer each time, so that a million of them don't keep the workers busy, and with jitter.
fn park_again(task: &Claimed, park: Duration, rng: &mut impl Rng) -> Duration {
    let before = u32::try_from(task.forgiven).unwrap_or_default();
    let growth = 2_u32.saturating_pow(before).min(LONGEST_PARK);
    (park * growth).mul_f64(rng.random_range(0.8..1.2))
}

/// The longest time for which a task is put aside.
pub(crate) fn longest_park(park: Duration) -> Duration {
    park * LONGEST_PARK * 2
}

fn failed(failure: &Failure) -> Step<'_> {
    Step {
        status: Status::Failed,
        result: None,
        failure: Some(failure),
        delay: None,
        outcome: Some("failed"),
        is_put_off: false,
    }
}

fn retrying(failure: &Failure, delay: Delay) -> Step<'_> {
    Step {
        status: Status::Retrying,
        result: None,
        failure: Some(failure),
        delay: Some(delay),
        outcome: Some("failed"),
        is_put_off: false,
    }
}

impl Step<'_> {
    pub(super) fn is_final(&self) -> bool {
        self.status.is_final()
    }

    /// The message that carries the step out, if RabbitMQ does.
    pub(super) fn message(
        &self,
        task: &Claimed,
        now: DateTime<Utc>,
        patience: Duration,
    ) -> Option<OutboxRow> {
        let (route, attempt) = match self.status {
            Status::Retrying => (Route::after(self.delay?)?, task.attempt + 1),
            Status::Pending => (Route::Tasks, task.attempt + 1),
            Status::Failed => (Route::Dead, task.attempt),
            _ => return None,
        };
        Some(OutboxRow::new(&task.subject(attempt), route, now, patience))
    }

    pub(super) fn push(&self, task: &Claimed, statement: &mut Settle) {
        statement.id.push(task.id.0);
        statement.attempt.push(task.attempt);
        statement.status.push(self.status.as_str());
        statement.result.push(self.result.map(str::to_owned));
        statement
            .error_code
            .push(self.failure.map(|failure| failure.code));
        // PostgreSQL has no NUL in texts.
        statement.error_message.push(
            self.failure
                .map(|failure| failure.message.replace('\0', "")),
        );
        statement
            .delay
            .push(self.delay.map(|delay| delay.duration().as_secs_f64()));
        statement
            .in_database
            .push(matches!(self.delay, Some(Delay::Until(_))));
        statement.finished.push(self.status.is_final());
        statement.outcome.push(self.outcome);
    }

    /// Counts an outcome that was taken; a failure is logged here and nowhere else. `cancelled`: somebody wanted the task
    /// to end, so there is no next step.
    pub(super) fn log(&self, task: &Claimed, cancelled: bool) {
        let status = if cancelled {
            Status::Cancelled
        } else {
            self.status
        };
        metrics::counter!("warren_tasks_settled_total", "kind" => task.kind.clone(), "status" => status.as_str()).increment(1);
        if cancelled {
            tracing::info!(task.id = %task.id, task.kind = %task.kind, task.attempt = task.attempt, "task cancelled while it ran");
            return;
        }
        let Some(failure) = self.failure else { return };
        if self.status == Status::Cancelled {
            tracing::info!(
                task.id = %task.id, task.kind = %task.kind, task.attempt = task.attempt, error.code = failure.code,
                "task not done: {}", failure.message
            );
            return;
        }
        if self.is_put_off {
            metrics::counter!("warren_mails_put_off_total", "code" => failure.code).increment(1);
        } else if self.outcome == Some(PARKED) {
            parked::log(task, failure);
        } else if self.status == Status::Pending {
            tracing::warn!(
                task.id = %task.id, task.kind = %task.kind, task.attempt = task.attempt, error.code = failure.code,
                "task given back: {}", failure.message
            );
        } else if let Some(delay) = self.delay {
            tracing::warn!(
                task.id = %task.id, task.kind = %task.kind, task.attempt = task.attempt, error.code = failure.code,
                "task failed, next try in {:?}: {}", delay.duration(), failure.message
            );
        } else {
            tracing::error!(
                task.id = %task.id, task.kind = %task.kind, task.attempt = task.attempt, error.code = failure.code,
                "task failed for good: {}", failure.message
            );
        }
    }
}

/// Instead of an outcome that PostgreSQL refuses. False: this is such a failure already.
pub(super) fn replace_by_failure(ended: &mut Ended) -> bool {
    const CODE: &str = "outcome_refused";
    if matches!(&ended.verdict, Verdict::Failed(TaskError::Fail(failure)) if failure.code == CODE) {
        return false;
    }
    ended.verdict = Verdict::Failed(TaskError::Fail(Failure::new(
        CODE,
        "the database refused to store the outcome",
    )));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};
    use shared::task::{Lane, Queue, TaskId};

    fn ended(attempt: i32, max_attempts: i32, verdict: Verdict) -> Ended {
        let task = Claimed {
            id: TaskId::now(),
            attempt,
            max_attempts,
            forgiven: 0,
            kind: "demo.noop".into(),
            queue: Queue::Work,
            lane: Lane::Low,
            payload: "{}".into(),
            on_worker_lost: OnWorkerLost::Hold,
            run_at: None,
            useful_for: None,
            started_at: None,
            traceparent: None,
            soft_limit_s: None,
            hard_limit_s: None,
            limited: false,
        };
        Ended {
            task,
            verdict,
            took: Duration::ZERO,
            output: Vec::new(),
        }
    }

    const PARK: Duration = Duration::from_secs(60);

    fn row(ended: &Ended) -> (Status, Option<(String, i32)>) {
        let step = next(ended, PARK, &mut StdRng::seed_from_u64(1));
        let message = step.message(&ended.task, Utc::now(), Duration::from_secs(1));
        (step.status, message.map(|row| (row.exchange, row.attempt)))
    }

    #[test]
    fn a_failed_attempt_goes_through_a_delay_tier() {
        let failure = Failure::new("x", "y");
        let verdict = Verdict::Failed(TaskError::RetryAfter(
            Duration::from_secs(55),
            failure.clone(),
        ));
        assert_eq!(
            row(&ended(2, 3, verdict)),
            (Status::Retrying, Some(("warren.retry.60s".into(), 3)))
        );
        let verdict = Verdict::Failed(TaskError::RetryAfter(Duration::from_secs(4000), failure));
        assert_eq!(row(&ended(2, 3, verdict)), (Status::Retrying, None));
    }

    #[test]
    fn a_held_task_whose_outcome_is_unclear_waits_for_a_person() {
        let unclear = || Verdict::Failed(TaskError::Unclear(Failure::new("x", "y")));
        assert_eq!(row(&ended(1, 3, unclear())), (Status::Unknown, None));
        let mut retried = ended(1, 3, unclear());
        retried.task.on_worker_lost = OnWorkerLost::Retry;
        assert_eq!(row(&retried).0, Status::Retrying);
    }

    #[test]
    fn the_last_attempt_goes_to_the_dead_letters() {
        let verdict = Verdict::Failed(TaskError::Retry(Failure::new("x", "y")));
        assert_eq!(
            row(&ended(3, 3, verdict)),
            (Status::Failed, Some(("warren.dead".into(), 3)))
        );
    }

    #[test]
    fn what_was_dropped_half_way_goes_by_its_policy() {
        for (policy, step) in [
            (OnWorkerLost::Hold, (Status::Unknown, None)),
            (
                OnWorkerLost::Fail,
                (Status::Failed, Some(("warren.dead".into(), 1))),
            ),
            (
                OnWorkerLost::Retry,
                (Status::Pending, Some(("warren.tasks".into(), 2))),
            ),
        ] {
            let mut dropped = ended(1, 1, Verdict::Dropped);
            dropped.task.on_worker_lost = policy;
            assert_eq!(row(&dropped), step, "{policy}");
        }
    }

    #[test]
    fn attempts_that_were_given_back_don_t_lengthen_the_wait() {
        let mut ended = ended(
            9,
            20,
            Verdict::Failed(TaskError::Retry(Failure::new("x", "y"))),
        );
        ended.task.forgiven = 8;
        let step = next(&ended, PARK, &mut StdRng::seed_from_u64(1));
        assert!(step.delay.unwrap().duration() <= Duration::from_secs(5));
    }

    #[test]
    fn what_nobody_here_can_do_waits_longer_each_time_and_never_fails() {
        let parked = || Verdict::Failed(TaskError::Park(Failure::new("x", "y")));
        let mut last = Duration::ZERO;
        for forgiven in [0, 1, 2, 3, 4, 30, 1000] {
            // The last attempt that it has.
            let mut ended = ended(forgiven + 1, forgiven + 1, parked());
            ended.task.forgiven = forgiven;
            assert_eq!(row(&ended), (Status::Retrying, None));
            let step = next(&ended, PARK, &mut StdRng::seed_from_u64(1));
            let wait = step.delay.unwrap().duration();
            assert!(wait >= last && wait <= longest_park(PARK), "{wait:?}");
            last = wait;
        }
    }

    #[test]
    fn a_released_task_is_published_again_at_once() {
        assert_eq!(
            row(&ended(1, 1, Verdict::Released)),
            (Status::Pending, Some(("warren.tasks".into(), 2)))
        );
    }
}
