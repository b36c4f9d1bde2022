//! Connections that wait for the next call to the same origin. They are few and not kept for long: most servers close
//! an idle connection after five seconds or more, and a request that meets that moment has an unknown outcome.

use super::connect::Connection;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

pub(super) struct Pool {
    most: usize,
    idle: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By origin, the latest at the end.
    waiting: HashMap<String, Vec<Waiting>>,
    is_swept: bool,
}

impl State {
    /// Gives up the place of the one that has waited longest, so that no origin keeps the others out.
    fn drop_oldest(&mut self) {
        let oldest = self
            .waiting
            .iter()
            .min_by_key(|(_, waiting)| waiting.first().map(|one| one.since))
            .map(|(origin, _)| origin.clone());
        let Some(origin) = oldest else { return };
        if let Some(waiting) = self.waiting.get_mut(&origin) {
            if waiting.len() > 1 {
                waiting.remove(0);
            } else {
                self.waiting.remove(&origin);
            }
        }
    }
}

struct Waiting {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(super) fn new(most: usize, idle: Duration) -> Arc<Self> {
        let most = if idle.is_zero() { 0 } else { most };
        Arc::new(Self {
            most,
            idle,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that was open a moment ago.
    pub(super) fn take(&self, origin: &str) -> Option<Connection> {
        let mut state = self.lock();
        let waiting = state.waiting.get_mut(origin)?;
        let mut found = None;
        while let Some(Waiting { connection, since }) = waiting.pop() {
            if since.elapsed() < self.idle && connection.sender.is_ready() {
                found = Some(connection);
                break;
            }
        }
        if waiting.is_empty() {
            state.waiting.remove(origin);
        }
        found
    }

    /// Keeps a connection whose answer has been read to its end.
    pub(super) fn put(self: &Arc<Self>, origin: String, connection: Connection) {
        if self.most == 0 || connection.sender.is_closed() {
            return;
        }
        let mut state = self.lock();
        if state.waiting.values().map(Vec::len).sum::<usize>() >= self.most {
            state.drop_oldest();
        }
        state.waiting.entry(origin).or_default().push(Waiting {
            connection,
            since: Instant::now(),
        });
        if !state.is_swept {
            state.is_swept = true;
            tokio::spawn(sweep(Arc::clone(self)));
        }
    }

    /// Closes what has waited too long; false when nothing waits any more.
    fn drop_old(&self) -> bool {
        let mut state = self.lock();
        state.waiting.retain(|_, waiting| {
            waiting.retain(|one| {
                one.since.elapsed() < self.idle && !one.connection.sender.is_closed()
            });
            !waiting.is_empty()
        });
        state.is_swept = !state.waiting.is_empty();
        state.is_swept
    }

    /// Closes everything.
    pub(super) fn clear(&self) {
        self.lock().waiting.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().waiting.values().map(Vec::len).sum()
    }
}

/// Runs while anything waits, so that a worker that makes no calls does nothing.
async fn sweep(pool: Arc<Pool>) {
    loop {
        tokio::time::sleep(pool.idle).await;
        if !pool.drop_old() {
            return;
        }
    }
}
