//! Runs one attempt under its time limits. Whatever a handler does, it ends as a verdict: a panic or a
//! passed limit fails the attempt, never the process.

use crate::{
    handlers::{self, Context, Services},
    task::{Claimed, Failure, TaskError, Verdict},
};
use futures_util::FutureExt;
use serde_json::value::RawValue;
pub use shared::task::Limits;
use std::panic::AssertUnwindSafe;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Runs the handler of a claimed task.
pub async fn run(
    task: &Claimed,
    context: &Context,
    limits: Limits,
    services: &Services,
    release: &CancellationToken,
) -> Verdict {
    let begin = Instant::now();
    let work = handlers::run(task, context, services);
    let verdict = limited(work, context, limits, release).await;
    metrics::histogram!("warren_task_seconds", "kind" => task.kind.clone())
        .record(begin.elapsed().as_secs_f64());
    verdict
}

async fn limited(
    work: impl Future<Output = Result<Box<RawValue>, TaskError>>,
    context: &Context,
    limits: Limits,
    release: &CancellationToken,
) -> Verdict {
    let work = AssertUnwindSafe(work).catch_unwind();
    let soft = tokio::time::sleep_until(Instant::now() + limits.soft);
    let hard = tokio::time::sleep_until(context.deadline);
    tokio::pin!(work, soft, hard);
    let mut warned = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut work => return match ended {
                Ok(Ok(result)) => Verdict::Completed(result),
                // It was told to hurry, and had not begun: an attempt that failed.
                Ok(Err(TaskError::Interrupted)) if warned => Verdict::Failed(TaskError::Retry(Failure::new(
                    "time_limit",
                    format!("the attempt could not begin its work before its soft limit of {:?}", limits.soft),
                ))),
                Ok(Err(TaskError::Interrupted)) => Verdict::Released,
                Ok(Err(error)) => Verdict::Failed(error),
                // The panic's text may hold anything, so it goes to the log's panic hook only.
                Err(_) => Verdict::Failed(TaskError::Fail(Failure::new("panic", "the handler panicked"))),
            },
            () = release.cancelled() => return if context.point.is_ahead() {
                Verdict::Released
            } else {
                Verdict::Dropped
            },
            () = &mut hard => return Verdict::Failed(too_long(context, limits)),
            () = &mut soft, if !warned => {
                warned = true;
                context.cancelled.cancel();
            }
        }
    }
}

fn too_long(context: &Context, limits: Limits) -> TaskError {
    let failure = Failure::new(
        "time_limit",
        format!(
            "the attempt took longer than its hard limit of {:?}",
            limits.hard
        ),
    );
    // Dropped half-way, it may have had its effect.
    if context.point.is_passed() {
        TaskError::Unclear(failure)
    } else {
        TaskError::Retry(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::Identity;
    use shared::task::TaskId;
    use std::{future::pending, time::Duration};

    const LIMITS: Limits = Limits {
        soft: Duration::from_millis(20),
        hard: Duration::from_millis(60),
    };

    fn context() -> Context {
        Context {
            task: TaskId::now(),
            attempt: 1,
            deadline: Instant::now() + LIMITS.hard,
            run_at: None,
            useful_until: None,
            cancelled: CancellationToken::new(),
            lease: Identity::new(Duration::from_secs(15)),
            board: crate::progress::Board::default(),
            point: crate::point::Point::default(),
        }
    }

    fn code(verdict: &Verdict) -> &str {
        match verdict {
            Verdict::Failed(TaskError::Retry(failure) | TaskError::Fail(failure)) => failure.code,
            _ => "",
        }
    }

    #[tokio::test]
    async fn the_soft_limit_asks_and_the_hard_limit_ends() {
        let context = context();
        let begin = Instant::now();
        let asked = async {
            context.cancelled.cancelled().await;
            assert!(begin.elapsed() >= LIMITS.soft);
            pending().await
        };
        let verdict = limited(asked, &context, LIMITS, &CancellationToken::new()).await;
        assert_eq!(code(&verdict), "time_limit");
        assert!(begin.elapsed() >= LIMITS.hard);
    }

    #[tokio::test]
    async fn a_panic_fails_the_attempt_alone() {
        let work = async { panic!("secret") };
        let verdict = limited(work, &context(), LIMITS, &CancellationToken::new()).await;
        assert_eq!(code(&verdict), "panic");
        assert!(!format!("{verdict:?}").contains("secret"));
    }

    #[tokio::test]
    async fn a_stopping_process_drops_what_does_not_end() {
        let release = CancellationToken::new();
        release.cancel();
        let verdict = limited(pending(), &context(), LIMITS, &release).await;
        assert!(matches!(verdict, Verdict::Dropped));
    }

    #[tokio::test]
    async fn what_asks_to_be_held_goes_by_its_point_of_no_return() {
        let release = CancellationToken::new();
        release.cancel();
        for (passed, stopped, late) in [(false, "Released", "Retry"), (true, "Dropped", "Unclear")]
        {
            let context = Context {
                point: crate::point::Point::for_tests(passed),
                ..self::context()
            };
            let verdict = limited(pending(), &context, LIMITS, &release).await;
            assert_eq!(format!("{verdict:?}"), stopped);
            let verdict = limited(pending(), &context, LIMITS, &CancellationToken::new()).await;
            assert!(
                format!("{verdict:?}").starts_with(&format!("Failed({late}")),
                "{verdict:?}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_interrupted_by_its_soft_limit_has_failed() {
        let context = context();
        let interrupted = async {
            context.cancelled.cancelled().await;
            Err(TaskError::Interrupted)
        };
        let verdict = limited(interrupted, &context, LIMITS, &CancellationToken::new()).await;
        assert_eq!(code(&verdict), "time_limit");
        let context = self::context();
        context.cancelled.cancel();
        let interrupted = async { Err(TaskError::Interrupted) };
        let verdict = limited(interrupted, &context, LIMITS, &CancellationToken::new()).await;
        assert!(matches!(verdict, Verdict::Released));
    }
}
