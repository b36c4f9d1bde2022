//! Configuration: `config.default.toml`, then the file named by `WARREN_CONFIG`, then environment
//! variables `WARREN__SECTION__KEY`. The documented defaults are the defaults, since they are this file.

mod files;
mod list;
mod mail;
mod outbound;
mod users;
mod verification;

pub use files::Files;
pub use mail::{Categories, CategoryPolicy, Dkim, Mail, Relay, Throttle, TlsMode};
pub use outbound::{Outbound, Secrets};
pub use users::Users;
pub use verification::Verification;

use crate::{
    address::{EmailAddress, Mailbox},
    category::Category,
    kinds::AcceptDefaults,
    outbound::Policy,
    pepper::Peppers,
    return_path,
    task::Queue,
    template::{self, Shelf},
};
use secrecy::SecretString;
use serde::Deserialize;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use url::Url;

/// Room for any character, and for some of them in each write.
const SMALLEST_BUFFER: usize = 64;

const DEFAULTS: &str = include_str!("../../config.default.toml");

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub service: Service,
    pub log: Log,
    pub database: Database,
    pub broker: Broker,
    pub http: Http,
    pub accept: Accept,
    pub auth: Auth,
    pub limits: InputLimits,
    pub outbox: Outbox,
    pub rescue: Rescue,
    pub retention: Retention,
    pub output: Output,
    pub worker: Worker,
    pub mail: Mail,
    pub outbound: Outbound,
    pub secrets: SecretKeys,
    pub verification: Verification,
    pub users: Users,
    pub files: Files,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretKeys {
    pub peppers: SecretString,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub demo_kinds: bool,
    pub shutdown_grace_s: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    pub level: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Json,
    Pretty,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub url: SecretString,
    pub pool_size: u32,
    pub pool_timeout_ms: u64,
    pub connect_timeout_s: u32,
    pub statement_timeout_ms: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    pub url: SecretString,
    pub heartbeat_s: u16,
    pub connect_timeout_s: u64,
    pub publish_window: usize,
    pub confirm_timeout_s: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    pub listen: SocketAddr,
    pub metrics_listen: SocketAddr,
    pub workers: usize,
    pub max_connections: usize,
    pub max_body_bytes: usize,
    pub max_wait_s: u64,
    pub max_waiting: usize,
    pub max_streams: usize,
    pub stream_heartbeat_s: u64,
    pub max_page: u32,
    pub public_url: String,
    pub client_address_header: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    pub queue_capacity: usize,
    pub queue_bytes: usize,
    pub max_batch: usize,
    pub max_batch_bytes: usize,
    pub patience_ms: u64,
    pub idempotency_hours: u32,
}

/// What holds for API keys that say nothing else; 0: no limit.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    pub rate_per_s: f64,
    pub burst: u32,
    pub daily_quota: u32,
}

impl Auth {
    /// Requests per second that can be asked for.
    pub const HIGHEST_RATE: f64 = 1_000_000.0;
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputLimits {
    pub max_recipients: usize,
    pub max_subject_bytes: usize,
    pub max_headers: usize,
    pub max_tags: usize,
    pub max_tag_bytes: usize,
    pub max_attempts: u16,
    pub max_schedule_days: u32,
    pub max_batch: usize,
    pub max_bulk: usize,
    pub max_replay_rate: u32,
    pub max_time_limit_s: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outbox {
    pub relay_after_ms: u32,
    pub relay_again_ms: u32,
    pub relay_batch: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rescue {
    pub lease_s: u64,
    pub heartbeat_s: u64,
    pub reconcile_s: u64,
    pub lost_after_s: u32,
    pub doctor_s: u64,
    pub clock_skew_s: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    pub finished_days: u32,
    pub result_hours: u32,
    pub audit_days: u32,
    pub every_s: u64,
    pub batch: u32,
    pub archive_dir: String,
    pub archive_file_bytes: u64,
}

impl Retention {
    /// The `result_ttl` of tasks that ask for none, in seconds.
    pub fn result_ttl_s(&self) -> Option<i32> {
        let seconds = self.result_hours.saturating_mul(3600);
        (seconds > 0).then(|| i32::try_from(seconds).unwrap_or(i32::MAX))
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    pub max_bytes: usize,
    pub buffer_bytes: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    pub http_listen: SocketAddr,
    pub threads: usize,
    pub claim_batch: usize,
    pub settle_wait_ms: u64,
    pub ack_within_s: u32,
    /// 0: never. Likewise below.
    pub max_tasks: u64,
    pub max_rss_mb: u64,
    pub park_s: u32,
    pub queues: WorkerQueues,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerQueues {
    pub mail: WorkerQueue,
    pub ai: WorkerQueue,
    pub work: WorkerQueue,
}

impl WorkerQueues {
    pub fn get(&self, queue: Queue) -> &WorkerQueue {
        match queue {
            Queue::Mail => &self.mail,
            Queue::Ai => &self.ai,
            Queue::Work => &self.work,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerQueue {
    /// 0: this process does not consume the queue.
    pub slots: usize,
    /// 0: sized from the slots.
    pub prefetch: u16,
}

impl WorkerQueue {
    /// Messages of one lane that the process holds ready: enough that no slot waits for the broker, and no more than
    /// that others could be working on.
    pub fn prefetch(&self) -> u16 {
        const MOST: usize = 2048;
        match self.prefetch {
            0 => u16::try_from((self.slots * 4).clamp(16, MOST)).unwrap_or(u16::MAX),
            asked => asked,
        }
    }
}

/// The configuration can't be used; says which key and why.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the configuration is not usable: {0}")]
    Read(#[from] config::ConfigError),
    #[error("the configuration is not usable: {key} {detail}")]
    Value { key: &'static str, detail: String },
}

impl ConfigError {
    pub(crate) fn value(key: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::Value { key, detail }
    }
}

impl Config {
    /// Reads the defaults, `WARREN_CONFIG` and the environment.
    pub fn load() -> Result<Self, ConfigError> {
        let environment = config::Environment::with_prefix("WARREN")
            .prefix_separator("__")
            .separator("__");
        let mut builder = config::Config::builder()
            .add_source(config::File::from_str(DEFAULTS, config::FileFormat::Toml));
        if let Some(file) = std::env::var_os("WARREN_CONFIG") {
            let file = std::path::PathBuf::from(file);
            builder = builder.add_source(config::File::from(file).format(config::FileFormat::Toml));
        }
        Self::from(builder.add_source(environment))
    }

    /// The defaults with some keys set, e.g. `("http.listen", "127.0.0.1:0")`; for tests and tools.
    pub fn with(overrides: &[(&str, &str)]) -> Result<Self, ConfigError> {
        let mut builder = config::Config::builder()
            .add_source(config::File::from_str(DEFAULTS, config::FileFormat::Toml));
        for (key, value) in overrides {
            builder = builder.set_override(*key, *value)?;
        }
        Self::from(builder)
    }

    fn from(
        builder: config::ConfigBuilder<config::builder::DefaultState>,
    ) -> Result<Self, ConfigError> {
        let config: Self = builder.build()?.try_deserialize()?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let value = |key, detail: &str| Err(ConfigError::value(key, detail));
        self.default_from()?;
        self.peppers()?;
        self.public_url()?;
        self.return_path()?;
        let categories = &self.mail.categories;
        if Category::ALL
            .into_iter()
            .any(|one| categories.priority(one) > 9)
        {
            return value("mail.categories.*.priority", "must be 0 to 9");
        }
        Policy::new(&self.outbound)?;
        let mistakes = [
            self.verification.mistake(),
            self.users.mistake(),
            self.files.mistake(),
            self.mail.throttle.mistake(),
        ];
        if let Some((key, detail)) = mistakes.into_iter().flatten().next() {
            return value(key, detail);
        }
        if self.mail.relays.is_empty() {
            return value("mail.relays", "must hold at least one relay");
        }
        if self
            .mail
            .relays
            .values()
            .any(|relay| relay.connections == 0)
        {
            return value("mail.relays.*.connections", "must be 1 or more");
        }
        let is_rate = |rate: f64| (0.0..=1_000_000.0).contains(&rate);
        if !self
            .mail
            .relays
            .values()
            .all(|relay| is_rate(relay.rate_per_s))
        {
            return value("mail.relays.*.rate_per_s", "must be 0 to 1000000");
        }
        if !(1..=1000).contains(&self.limits.max_recipients) {
            return value("limits.max_recipients", "must be 1 to 1000");
        }
        if self.accept.max_batch == 0 || self.accept.queue_capacity == 0 {
            return value("accept", "max_batch and queue_capacity must be 1 or more");
        }
        if !(0.0..=Auth::HIGHEST_RATE).contains(&self.auth.rate_per_s) {
            return value("auth.rate_per_s", "must be 0 to 1000000");
        }
        if self.broker.publish_window == 0 {
            return value("broker.publish_window", "must be 1 or more");
        }
        if self.worker.claim_batch == 0 {
            return value("worker.claim_batch", "must be 1 or more");
        }
        if self.http.stream_heartbeat_s == 0 {
            return value("http.stream_heartbeat_s", "must be 1 or more");
        }
        if self.output.buffer_bytes < SMALLEST_BUFFER {
            return value("output.buffer_bytes", "must be 64 or more");
        }
        if !(self.rescue.clock_skew_s.is_finite() && self.rescue.clock_skew_s > 0.0) {
            return value("rescue.clock_skew_s", "must be more than 0");
        }
        if self.worker.ack_within_s == 0 {
            return value("worker.ack_within_s", "must be 1 or more");
        }
        if self.worker.park_s == 0 {
            return value("worker.park_s", "must be 1 or more");
        }
        if self.rescue.lease_s < 2 * self.rescue.heartbeat_s || self.rescue.heartbeat_s == 0 {
            return value(
                "rescue.lease_s",
                "must be at least twice rescue.heartbeat_s, which must be 1 or more",
            );
        }
        Ok(())
    }

    fn default_from(&self) -> Result<Option<Mailbox>, ConfigError> {
        match self.mail.default_from.as_str() {
            "" => Ok(None),
            text => Mailbox::parse(text)
                .map(Some)
                .map_err(|error| ConfigError::Value {
                    key: "mail.default_from",
                    detail: error.to_string(),
                }),
        }
    }

    /// The secrets by which codes and links are made.
    pub fn peppers(&self) -> Result<Peppers, ConfigError> {
        Peppers::parse(&self.secrets.peppers)
            .map_err(|error| ConfigError::value("secrets.peppers", error.to_string()))
    }

    /// Where people reach this API, without a slash at its end; none: they don't.
    pub fn public_url(&self) -> Result<Option<String>, ConfigError> {
        let text = self.http.public_url.trim_end_matches('/');
        if text.is_empty() {
            return Ok(None);
        }
        let is_usable = Url::parse(text).is_ok_and(|url| {
            matches!(url.scheme(), "https" | "http")
                && url.has_host()
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
        });
        if is_usable && text.is_ascii() && text.len() <= 200 {
            Ok(Some(text.to_owned()))
        } else {
            let detail = "must be like https://mail.example.com, at most 200 bytes";
            Err(ConfigError::value("http.public_url", detail))
        }
    }

    /// The address that bounces go to, to which each mail adds its own mark; none: they go to the sender.
    pub fn return_path(&self) -> Result<Option<EmailAddress>, ConfigError> {
        const KEY: &str = "mail.return_path";
        if self.mail.return_path.is_empty() {
            return Ok(None);
        }
        let address = EmailAddress::parse(&self.mail.return_path)
            .map_err(|error| ConfigError::value(KEY, error.to_string()))?;
        if address.local().len() > return_path::LONGEST_LOCAL {
            let detail =
                "must have at most 10 characters before the @, since each mail adds to them";
            return Err(ConfigError::value(KEY, detail));
        }
        if self.peppers()?.first().is_none() {
            return Err(ConfigError::value(KEY, "needs secrets.peppers"));
        }
        Ok(Some(address))
    }

    /// What accepting a payload needs to know.
    pub fn accept_defaults(
        &self,
        templates: Arc<dyn Shelf>,
    ) -> Result<AcceptDefaults, ConfigError> {
        Ok(AcceptDefaults {
            from: self.default_from()?,
            max_recipients: self.limits.max_recipients,
            max_subject_bytes: self.limits.max_subject_bytes,
            max_headers: self.limits.max_headers,
            outbound: Arc::new(Policy::new(&self.outbound)?),
            max_metadata: self.mail.max_metadata,
            can_unsubscribe: self.public_url()?.is_some() && self.peppers()?.first().is_some(),
            categories: self.mail.categories.clone(),
            templates,
        })
    }

    pub fn template_limits(&self) -> template::Limits {
        template::Limits {
            max_bytes: self.mail.max_template_bytes,
        }
    }

    pub fn shutdown_grace(&self) -> Duration {
        Duration::from_secs(self.service.shutdown_grace_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_file_is_complete() {
        let config = Config::with(&[]).unwrap();
        assert_eq!(config.mail.relays["default"].tls, TlsMode::Starttls);
        assert!(!config.service.demo_kinds);
    }

    #[test]
    fn a_further_relay_has_the_same_defaults() {
        let config = Config::with(&[("mail.relays.second.host", "mx.example")]).unwrap();
        let mut first = config.mail.relays["default"].clone();
        first.host = "mx.example".into();
        assert_eq!(
            format!("{first:?}"),
            format!("{:?}", config.mail.relays["second"])
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (key, value, said) in [
            ("http.listne", "x", "listne"),
            ("http.workers", "two", "http.workers"),
            ("mail.default_from", "nobody", "mail.default_from"),
            ("http.stream_heartbeat_s", "0", "http.stream_heartbeat_s"),
            ("output.buffer_bytes", "63", "output.buffer_bytes"),
            ("auth.rate_per_s", "-1", "auth.rate_per_s"),
            ("rescue.heartbeat_s", "10", "rescue.lease_s"),
            ("rescue.clock_skew_s", "0", "rescue.clock_skew_s"),
            ("worker.park_s", "0", "worker.park_s"),
            ("mail.relays.default.tls", "maybe", "tls"),
        ] {
            let error = Config::with(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(said), "{key}: {error}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let config = Config::with(&[("mail.relays.default.password", "hunter2")]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!format!("{config:?}").contains("warren:warren"));
    }
}
