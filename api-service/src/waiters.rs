//! `?wait=`: requests that wait for a task to be final. One loop asks PostgreSQL for all waited tasks at
//! once, ten times a second while anybody waits; a waiting request holds neither a thread nor a connection.

use crate::queries::tasks;
use shared::{db::Pool, task::TaskId};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const POLL: Duration = Duration::from_millis(100);

/// As many requests wait as may (`http.max_waiting`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many requests are waiting for tasks")]
pub struct TooMany;

/// A handle to the loop; clones share it.
#[derive(Clone)]
pub struct Waiters(Arc<Shared>);

struct Shared {
    most: usize,
    waiting: Mutex<Waiting>,
    /// Somebody waits.
    woken: Notify,
    stop: CancellationToken,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    places: HashMap<u64, (Uuid, oneshot::Sender<()>)>,
}

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiters")
            .field("waiting", &self.0.waiting().places.len())
            .finish_non_exhaustive()
    }
}

impl Waiters {
    /// Starts the loop; must be called in a tokio runtime.
    pub fn spawn(pool: Pool, most: usize, stop: CancellationToken) -> Self {
        let shared = Arc::new(Shared {
            most,
            waiting: Mutex::default(),
            woken: Notify::new(),
            stop: stop.clone(),
        });
        let polled = Arc::clone(&shared);
        tokio::spawn(stop.run_until_cancelled_owned(async move { polled.run(pool).await }));
        Self(shared)
    }

    /// Returns when the task is final or gone, at `longest`, or when the service stops.
    pub async fn wait(&self, task: TaskId, longest: Duration) -> Result<(), TooMany> {
        let (place, done) = self.0.register(task)?;
        tokio::select! {
            _done = done => {}
            () = tokio::time::sleep(longest) => {}
            () = self.0.stop.cancelled() => {}
        }
        drop(place);
        Ok(())
    }
}

/// A place among those who wait; given up when dropped, also by a caller who hangs up.
struct Place<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.waiting().places.remove(&self.number);
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, task: TaskId) -> Result<(Place<'_>, oneshot::Receiver<()>), TooMany> {
        let (sender, done) = oneshot::channel();
        let mut waiting = self.waiting();
        if waiting.places.len() >= self.most {
            return Err(TooMany);
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.places.insert(number, (task.0, sender));
        drop(waiting);
        self.woken.notify_one();
        Ok((
            Place {
                shared: self,
                number,
            },
            done,
        ))
    }

    async fn run(&self, pool: Pool) {
        loop {
            let waited: HashSet<Uuid> = self
                .waiting()
                .places
                .values()
                .map(|place| place.0)
                .collect();
            if waited.is_empty() {
                self.woken.notified().await;
                continue;
            }
            let ids: Vec<Uuid> = waited.iter().copied().collect();
            match pool
                .run(move |connection| tasks::unfinished(connection, &ids))
                .await
            {
                Ok(live) => self.release(&waited, &live.into_iter().collect()),
                Err(error) => tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "waited tasks could not be looked at"
                ),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Wakes those who wait for a task that was asked for and is not live.
    fn release(&self, asked: &HashSet<Uuid>, live: &HashSet<Uuid>) {
        let done = self
            .waiting()
            .places
            .extract_if(|_, (task, _)| asked.contains(task) && !live.contains(task))
            .collect::<Vec<_>>();
        for (_, (_, sender)) in done {
            // The caller may have gone in this moment.
            let _gone = sender.send(());
        }
    }
}
