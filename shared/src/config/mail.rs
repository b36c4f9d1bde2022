//! `[mail]`: relays, signatures, templates, and what holds for the categories of mails.

use crate::category::Category;
use secrecy::SecretString;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    pub default_from: String,
    pub product: String,
    pub helo: String,
    pub message_id_domain: String,
    pub max_templates: u32,
    pub max_template_bytes: usize,
    pub max_metadata: usize,
    pub max_import_bytes: usize,
    pub return_path: String,
    pub hard_bounce_days: u32,
    pub complaint_days: u32,
    pub categories: Categories,
    pub throttle: Throttle,
    pub relays: BTreeMap<String, Relay>,
    #[serde(default)]
    pub dkim: BTreeMap<String, Dkim>,
}

/// How mails to domains that ask for less slow down and recover; mails per second.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Throttle {
    /// 0: they don't.
    pub first_per_s: f64,
    pub lowest_per_s: f64,
    pub highest_per_s: f64,
    pub recover_s: u32,
}

impl Throttle {
    /// Which key can't be as it is, and why.
    pub(super) fn mistake(&self) -> Option<(&'static str, &'static str)> {
        let is_rate = |rate: f64| rate > 0.0 && rate <= 1_000_000.0;
        let is_off = self.first_per_s == 0.0;
        if !(is_off
            || is_rate(self.first_per_s)
                && is_rate(self.lowest_per_s)
                && is_rate(self.highest_per_s))
        {
            return Some((
                "mail.throttle",
                "rates must be above 0, first_per_s alone may be 0",
            ));
        }
        (self.recover_s == 0).then_some(("mail.throttle.recover_s", "must be 1 or more"))
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Categories {
    pub transactional: CategoryPolicy,
    pub security: SecurityPolicy,
    pub marketing: CategoryPolicy,
}

/// What holds for mails of a category that say nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CategoryPolicy {
    pub priority: u8,
    /// 0: as long as the task.
    pub content_hours: u32,
}

/// Likewise; its content goes with the mail, whatever is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityPolicy {
    pub priority: u8,
}

impl Categories {
    pub fn priority(&self, category: Category) -> u8 {
        match category {
            Category::Transactional => self.transactional.priority,
            Category::Security => self.security.priority,
            Category::Marketing => self.marketing.priority,
        }
    }

    /// Seconds after a mail's end until its content is removed; none: with its task.
    pub fn content_ttl_s(&self, category: Category) -> Option<i32> {
        let hours = match category {
            Category::Transactional => self.transactional.content_hours,
            Category::Security => return Some(0),
            Category::Marketing => self.marketing.content_hours,
        };
        let seconds = hours.saturating_mul(3600);
        (seconds > 0).then(|| i32::try_from(seconds).unwrap_or(i32::MAX))
    }
}

/// A key that signs the mails of a domain. Either `key` or `key_file`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dkim {
    pub domain: String,
    pub selector: String,
    #[serde(default)]
    pub key: SecretString,
    #[serde(default)]
    pub key_file: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relay {
    pub host: String,
    #[serde(default = "relay_defaults::port")]
    pub port: u16,
    #[serde(default = "relay_defaults::tls")]
    pub tls: TlsMode,
    #[serde(default)]
    pub username: String,
    #[serde(default)]
    pub password: SecretString,
    #[serde(default)]
    pub ca_file: String,
    #[serde(default = "relay_defaults::weight")]
    pub weight: u32,
    /// 0: no limit.
    #[serde(default)]
    pub rate_per_s: f64,
    #[serde(default = "relay_defaults::connections")]
    pub connections: usize,
    /// Of all processes together; 0: no limit.
    #[serde(default)]
    pub connections_total: usize,
    #[serde(default = "relay_defaults::max_mails_per_connection")]
    pub max_mails_per_connection: u32,
    #[serde(default = "relay_defaults::max_idle_s")]
    pub max_idle_s: u64,
    #[serde(default = "relay_defaults::connect_timeout_s")]
    pub connect_timeout_s: u64,
    #[serde(default = "relay_defaults::command_timeout_s")]
    pub command_timeout_s: u64,
    #[serde(default = "relay_defaults::data_timeout_s")]
    pub data_timeout_s: u64,
}

/// For relays other than `default`, which has its values in `config.default.toml`; the same ones.
mod relay_defaults {
    use super::TlsMode;
    pub(super) const fn port() -> u16 {
        25
    }
    pub(super) const fn tls() -> TlsMode {
        TlsMode::Starttls
    }
    pub(super) const fn weight() -> u32 {
        1
    }
    pub(super) const fn connections() -> usize {
        16
    }
    pub(super) const fn max_mails_per_connection() -> u32 {
        1000
    }
    pub(super) const fn max_idle_s() -> u64 {
        30
    }
    pub(super) const fn connect_timeout_s() -> u64 {
        10
    }
    pub(super) const fn command_timeout_s() -> u64 {
        60
    }
    pub(super) const fn data_timeout_s() -> u64 {
        120
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    None,
    Starttls,
    Implicit,
}
