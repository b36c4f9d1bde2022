//! `?wait=`: requests that wait for a task to be final. The [`Watcher`] looks for all of them; a waiting request holds
//! neither a thread nor a connection.

use crate::watcher::Watcher;
use shared::task::TaskId;
use std::{fmt, time::Duration};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// As many requests wait as may (`http.max_waiting`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many requests are waiting for tasks")]
pub struct TooMany;

/// The places for those who wait.
pub struct Waiters {
    places: Semaphore,
    watcher: Watcher,
    stop: CancellationToken,
}

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiters")
            .field("free", &self.places.available_permits())
            .finish_non_exhaustive()
    }
}

impl Waiters {
    pub fn new(watcher: Watcher, most: usize, stop: CancellationToken) -> Self {
        Self {
            places: Semaphore::new(most.min(Semaphore::MAX_PERMITS)),
            watcher,
            stop,
        }
    }

    /// Returns when the task is final or gone, at `longest`, or when the service stops. A caller who hangs up gives its
    /// place up.
    pub async fn wait(&self, task: TaskId, longest: Duration) -> Result<(), TooMany> {
        let _place = self.places.try_acquire().map_err(|_| TooMany)?;
        let mut watch = self.watcher.watch(task);
        tokio::select! {
            () = watch.over() => {}
            () = tokio::time::sleep(longest) => {}
            () = self.stop.cancelled() => {}
        }
        Ok(())
    }
}
