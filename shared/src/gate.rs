//! A gate that opens once: loops wait here until the database schema is there.

use std::sync::{Arc, OnceLock};

#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<OnceLock<bool>>);

impl Gate {
    /// Lets everybody through; or, with `false`, tells them that it will never open.
    pub fn set(&self, open: bool) {
        // The first word counts.
        let _already = self.0.set(open);
    }

    pub fn is_open(&self) -> bool {
        self.0.get().copied().unwrap_or(false)
    }

    /// Blocks until the gate is set. False: the service is stopping.
    pub fn wait(&self) -> bool {
        *self.0.wait()
    }
}
