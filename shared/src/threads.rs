//! Loops that block: each on a plain thread of its own, off the async runtime.

use std::{
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Starts a named thread that the process can't do without.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    let vital = Vital(name.to_owned());
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _vital = vital;
            work();
        })
}

/// Starts an async task that the process can't do without.
pub fn spawn_task<T: Send + 'static>(
    name: &str,
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let vital = Vital(name.to_owned());
    tokio::spawn(async move {
        let _vital = vital;
        work.await
    })
}

/// A loop that panicked would leave a process that looks alive and does nothing. It ends instead, so that
/// whoever supervises it starts it anew; what it had not settled is rescued.
struct Vital(String);

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the {} loop panicked; the process ends", self.0);
            std::process::exit(70);
        }
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
