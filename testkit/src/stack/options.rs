//! What a stack is to be made of.

use std::path::PathBuf;

use crate::services::{PostgresOptions, RabbitMqOptions};

/// A connection between two parts that a [`crate::proxy::Proxy`] can be put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    ApiToBroker,
    ApiToDatabase,
    MailerToBroker,
    MailerToDatabase,
    MailerToRelay,
}

/// Ports to take when they are free; otherwise the next free ones, or any.
#[derive(Debug, Clone, Copy, Default)]
pub struct Preferred {
    pub api: Option<u16>,
    pub inbox: Option<u16>,
    pub smtp: Option<u16>,
}

/// How the stack is to be. Only the folder has no default.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// Where data, logs and pid files go; kept between runs.
    pub folder: PathBuf,
    /// Where `api-service`, `mailer-service` and `inbox` are; beside the running program if not said.
    pub binaries: Option<PathBuf>,
    /// How many mailer-services to start.
    pub mailers: usize,
    /// Variables for the api-service beyond, or instead of, the usual ones.
    pub api_env: Vec<(String, String)>,
    /// Likewise for every mailer-service.
    pub mailer_env: Vec<(String, String)>,
    /// Arguments for the inbox besides its addresses.
    pub inbox_args: Vec<String>,
    /// Links that get a proxy.
    pub proxied: Vec<Link>,
    pub preferred: Preferred,
    pub postgres: PostgresOptions,
    pub rabbitmq: RabbitMqOptions,
}

impl StackOptions {
    /// One api-service and one mailer-service on any free ports.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            binaries: None,
            mailers: 1,
            api_env: Vec::new(),
            mailer_env: Vec::new(),
            inbox_args: Vec::new(),
            proxied: Vec::new(),
            preferred: Preferred::default(),
            postgres: PostgresOptions::default(),
            rabbitmq: RabbitMqOptions::default(),
        }
    }
}
