//! `[outbound]`: how other people's HTTP endpoints are called.

use super::{ConfigError, list};
use crate::outbound::secret;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use std::{collections::BTreeMap, convert::Infallible, str::FromStr};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outbound {
    #[serde(deserialize_with = "list::deserialize")]
    pub allow: Vec<String>,
    #[serde(deserialize_with = "list::deserialize")]
    pub ports: Vec<u16>,
    pub allow_http: bool,
    pub ca_file: String,
    pub user_agent: String,
    pub connect_timeout_s: u64,
    pub timeout_s: u32,
    pub max_timeout_s: u32,
    pub max_redirects: u8,
    pub max_url_bytes: usize,
    pub max_response_bytes: usize,
    pub max_retry_after_s: u64,
    pub max_calls: usize,
    pub max_lookups: usize,
    pub max_idle: usize,
    pub max_idle_s: u64,
    #[serde(default)]
    pub secrets: BTreeMap<String, Secrets>,
}

/// One secret, or during a rotation several.
#[derive(Debug, Clone)]
pub struct Secrets(pub Vec<SecretString>);

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hidden(SecretString);
        impl FromStr for Hidden {
            type Err = Infallible;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ok(Self(text.into()))
            }
        }
        let secrets: Vec<Hidden> = list::deserialize(deserializer)?;
        Ok(Self(secrets.into_iter().map(|hidden| hidden.0).collect()))
    }
}

impl Outbound {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for (key, number) in [
            ("outbound.connect_timeout_s", self.connect_timeout_s),
            ("outbound.timeout_s", self.timeout_s.into()),
            ("outbound.max_url_bytes", self.max_url_bytes as u64),
            ("outbound.max_calls", self.max_calls as u64),
            ("outbound.max_lookups", self.max_lookups as u64),
        ] {
            if number == 0 {
                return Err(ConfigError::value(key, "must be 1 or more"));
            }
        }
        if self.max_timeout_s < self.timeout_s {
            let detail = "must be at least outbound.timeout_s";
            return Err(ConfigError::value("outbound.max_timeout_s", detail));
        }
        for (name, secrets) in &self.secrets {
            let wrong = |detail: String| {
                Err(ConfigError::value(
                    "outbound.secrets",
                    format!("{name}: {detail}"),
                ))
            };
            if !secret::is_name(name) {
                return wrong("the name must be 1 to 64 lower-case letters, digits, - and _, and not \"none\"".into());
            }
            if secrets.0.is_empty() {
                return wrong("must hold at least one secret".into());
            }
            if let Some(error) = secrets
                .0
                .iter()
                .find_map(|secret| secret::decode(secret).err())
            {
                return wrong(error.to_string());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn lists_are_arrays_or_texts() {
        let outbound = Config::with(&[]).unwrap().outbound;
        assert_eq!(
            (outbound.allow.len(), outbound.ports),
            (0, vec![80, 443, 8080, 8443])
        );
        let two = format!("{SECRET} {SECRET}");
        let outbound = Config::with(&[
            ("outbound.allow", "10.0.0.0/8,billing.internal"),
            ("outbound.ports", "443"),
            ("outbound.secrets.default", &two),
        ])
        .unwrap()
        .outbound;
        assert_eq!(outbound.allow, ["10.0.0.0/8", "billing.internal"]);
        assert_eq!(outbound.ports, [443]);
        assert_eq!(outbound.secrets["default"].0.len(), 2);
        assert!(
            Config::with(&[("outbound.ports", "")])
                .unwrap()
                .outbound
                .ports
                .is_empty()
        );
    }

    #[test]
    fn mistakes_name_their_key_and_no_secret() {
        for (key, value, said) in [
            ("outbound.allow", "10.0.0.0/33", "outbound.allow"),
            ("outbound.ports", "http", "outbound.ports"),
            ("outbound.timeout_s", "0", "outbound.timeout_s"),
            ("outbound.timeout_s", "9999", "outbound.max_timeout_s"),
            ("outbound.max_calls", "0", "outbound.max_calls"),
            ("outbound.secrets.default", "", "outbound.secrets"),
            ("outbound.secrets.default", "hunter2", "outbound.secrets"),
            ("outbound.secrets.none", SECRET, "outbound.secrets"),
        ] {
            let error = Config::with(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(said), "{key}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let config = Config::with(&[("outbound.secrets.default", SECRET)]).unwrap();
        assert!(!format!("{config:?}").contains("MfKQ"));
    }
}
