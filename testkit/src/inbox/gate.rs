//! The switch over all SMTP connections: hold new ones, cut open ones, end everything.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

pub(super) struct Gate {
    open: watch::Sender<bool>,
    /// Cancelled and replaced when the open connections are cut.
    generation: Mutex<CancellationToken>,
    /// Ends the inbox.
    end: CancellationToken,
    places: Arc<Semaphore>,
    max_connections: usize,
}

impl Gate {
    pub(super) fn new(max_connections: usize) -> Self {
        let max_connections = max_connections.clamp(1, Semaphore::MAX_PERMITS);
        let end = CancellationToken::new();
        Self {
            open: watch::Sender::new(true),
            generation: Mutex::new(end.child_token()),
            end,
            places: Arc::new(Semaphore::new(max_connections)),
            max_connections,
        }
    }

    pub(super) fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }

    /// Returns once connections may come in.
    pub(super) async fn opened(&self) {
        // The sender lives in `self`, so waiting can't fail.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    /// A place among the allowed connections, if one is free.
    pub(super) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    pub(super) fn connections(&self) -> usize {
        self.max_connections - self.places.available_permits()
    }

    /// Cancelled when the connections that are open now are to be cut.
    pub(super) fn token(&self) -> CancellationToken {
        self.generation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn cut(&self) {
        let mut generation = self
            .generation
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *generation, self.end.child_token()).cancel();
    }

    pub(super) fn end(&self) {
        self.end.cancel();
    }

    pub(super) async fn ended(&self) {
        self.end.cancelled().await;
    }
}
