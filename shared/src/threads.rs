//! Loops that block: each on a plain thread of its own, off the async runtime.

use futures_util::FutureExt;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Starts a named thread that the process can't do without.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    let vital = name.to_owned();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                end_process(&vital);
            }
        })
}

/// Starts an async task that the process can't do without.
pub fn spawn_task<T: Send + 'static>(
    name: &'static str,
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(async move {
        match AssertUnwindSafe(work).catch_unwind().await {
            Ok(value) => value,
            Err(_) => end_process(name),
        }
    })
}

/// Waits for a task that has been told to end; drops it when it does not, as when a blocked broker holds it up.
pub async fn end_within<T>(limit: Duration, mut task: tokio::task::JoinHandle<T>) {
    if tokio::time::timeout(limit, &mut task).await.is_err() {
        task.abort();
        let _dropped = task.await;
    }
}

/// A loop that panicked would leave a process that looks alive and does nothing. It ends instead, so that
/// whoever supervises it starts it anew; what it had not settled is rescued.
fn end_process(name: &str) -> ! {
    tracing::error!("the {name} loop panicked; the process ends");
    std::process::exit(70)
}

/// Waits for a thread without blocking the runtime.
pub async fn join(thread: JoinHandle<()>) {
    let joined = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
    if !matches!(joined, Ok(true)) {
        tracing::error!("a thread of the service panicked");
    }
}

/// Sleeps, at most until `stop`. False: stop.
pub fn rest(stop: &CancellationToken, pause: Duration) -> bool {
    let end = Instant::now() + pause;
    while !stop.is_cancelled() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
    false
}
