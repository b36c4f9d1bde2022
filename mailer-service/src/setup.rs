//! What is wrong with the configuration, found at start, so that no task fails for a wrong key.

use shared::config::ConfigError;
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

pub(crate) fn unusable(error: ConfigError) -> SetupError {
    match error {
        ConfigError::Value { key, detail } => wrong(key, detail),
        ConfigError::Read(error) => wrong("", "can't be read").caused_by(error),
    }
}
