//! What is wrong with the configuration, found at start, so that no task fails for a wrong key.

use std::error::Error;

/// The configuration can't be used; says which key and why.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is not usable: {key} {detail}")]
pub struct SetupError {
    /// The configuration key, e.g. `mail.relays.default.ca_file`.
    pub key: String,
    pub detail: String,
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

pub(crate) fn wrong(key: impl Into<String>, detail: impl Into<String>) -> SetupError {
    SetupError {
        key: key.into(),
        detail: detail.into(),
        source: None,
    }
}

impl SetupError {
    pub(crate) fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}
