//! Calls to other people's HTTP endpoints: what a URL must be like, where it may lead, and what signs the request.
//! Both services read it, so that the API refuses at the door what the worker would refuse later.

mod allow;
pub mod class;
pub mod guard;
pub mod secret;
mod url;

pub use self::{
    class::Class,
    guard::{Guard, Refusal},
    url::{EndpointUrl, UrlError},
};
pub use ::url::Host;

use crate::config::{self, ConfigError};
use std::collections::BTreeSet;

/// What accepting a call needs to know of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    pub guard: Guard,
    /// The names of the signing secrets.
    pub secrets: BTreeSet<String>,
    pub max_url_bytes: usize,
    pub timeout_s: u32,
    pub max_timeout_s: u32,
    pub max_redirects: u8,
}

impl Policy {
    pub fn new(outbound: &config::Outbound) -> Result<Self, ConfigError> {
        outbound.check()?;
        Ok(Self {
            guard: Guard::new(outbound)?,
            secrets: outbound.secrets.keys().cloned().collect(),
            max_url_bytes: outbound.max_url_bytes,
            timeout_s: outbound.timeout_s,
            max_timeout_s: outbound.max_timeout_s,
            max_redirects: outbound.max_redirects,
        })
    }
}
