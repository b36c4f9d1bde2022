//! The limits and pauses in force, as this process last read them. The control thread reads them twice a second.

use crate::queries::policy;
use shared::{db::Session, limits::Policy};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Policies(Arc<Mutex<Option<Arc<Policy>>>>);

impl Policies {
    /// None: not read yet.
    pub fn get(&self) -> Option<Arc<Policy>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn set(&self, policy: Arc<Policy>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(policy);
    }

    /// Reads them if nobody has: nothing is claimed before they are known. None: stop.
    pub fn get_or_read(
        &self,
        session: &mut Session,
        stop: &CancellationToken,
    ) -> Option<Arc<Policy>> {
        if let Some(policy) = self.get() {
            return Some(policy);
        }
        loop {
            match session.run_until(stop, "reading the limits", policy::read)? {
                Ok(policy) => {
                    let policy = Arc::new(policy);
                    self.set(Arc::clone(&policy));
                    return Some(policy);
                }
                // They lie in tables of ours, and nothing may start without them.
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the limits can't be read; nothing is claimed until they can"
                    );
                    if !shared::threads::rest(stop, std::time::Duration::from_secs(1)) {
                        return None;
                    }
                }
            }
        }
    }
}
