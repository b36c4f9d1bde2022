//! Runs one attempt under its time limits. Whatever a handler does, it ends as a verdict: a panic or a
//! passed limit fails the attempt, never the process.

use crate::{
    handlers::{self, Context, Services},
    task::{Claimed, Failure, TaskError, Verdict},
};
use futures_util::FutureExt;
pub use shared::task::Limits;
use std::panic::AssertUnwindSafe;
use tokio_util::sync::CancellationToken;

pub async fn run(
    task: &Claimed,
    context: &Context,
    limits: Limits,
    services: &Services,
    release: &CancellationToken,
) -> Verdict {
    let begin = tokio::time::Instant::now();
    let work = AssertUnwindSafe(handlers::run(task, context, services)).catch_unwind();
    tokio::pin!(work);
    let soft = tokio::time::sleep_until(begin + limits.soft);
    let hard = tokio::time::sleep_until(context.deadline);
    tokio::pin!(soft, hard);
    let mut warned = false;
    let verdict = loop {
        tokio::select! {
            biased;
            ended = &mut work => break match ended {
                Ok(Ok(result)) => Verdict::Completed(result),
                Ok(Err(error)) => Verdict::Failed(error),
                // The panic's text may hold anything, so it goes to the log's panic hook only.
                Err(_) => Verdict::Failed(TaskError::Fail(Failure::new("panic", "the handler panicked"))),
            },
            () = release.cancelled() => break Verdict::Released,
            () = &mut hard => break Verdict::Failed(TaskError::Retry(Failure::new(
                "time_limit",
                format!("the attempt took longer than its hard limit of {:?}", limits.hard),
            ))),
            () = &mut soft, if !warned => {
                warned = true;
                context.cancelled.cancel();
            }
        }
    };
    metrics::histogram!("warren_task_seconds", "kind" => task.kind.clone())
        .record(begin.elapsed().as_secs_f64());
    verdict
}
