//! `[mail]` of the configuration, checked once at start, so that no mail fails for a wrong key.

use super::{build::BuildOptions, dkim::Signers, tls};
use crate::setup::{SetupError, unusable, wrong};
use lettre::transport::smtp::{authentication::Credentials, extension::ClientId};
use secrecy::ExposeSecret as _;
use shared::{
    address::EmailAddress,
    config::{self, Config, TlsMode},
    pepper::Peppers,
    return_path,
    task::TaskId,
};
use std::{sync::Arc, time::Duration};

/// One relay, ready to be dialled.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Tls,
    pub(super) credentials: Option<Credentials>,
    pub(super) helo: ClientId,
    /// Its chance among the others; 0: only when none of them lets a mail in.
    pub(super) weight: u32,
    pub(super) connections: usize,
    /// Of all processes together; 0: no limit.
    pub(super) connections_total: usize,
    pub(super) max_mails: u32,
    pub(super) max_idle: Duration,
    pub(super) timeouts: Timeouts,
}

/// For each phase; a task's own deadline may end it sooner.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// DNS and TCP together, then each of the TLS handshake and greeting with EHLO.
    pub(super) connect: Duration,
    /// Each command, and a pipelined group of them.
    pub(super) command: Duration,
    /// The mail itself and the reply to it.
    pub(super) data: Duration,
}

#[derive(Debug)]
pub(super) enum Tls {
    None,
    /// Required: a relay that does not offer it is an error (RFC 8314, 4.1).
    Starttls(tls::Client),
    Implicit(tls::Client),
}

/// All relays, in the order of their names.
pub(super) fn relays(mail: &config::Mail) -> Result<Vec<Settings>, SetupError> {
    let helo = helo(&mail.helo)?;
    mail.relays
        .iter()
        .map(|(name, relay)| Settings::new(name, relay, helo.clone()))
        .collect()
}

pub(super) fn build_options(config: &Config) -> Result<BuildOptions, SetupError> {
    let mail = &config.mail;
    let domain = match mail.message_id_domain.as_str() {
        "" => None,
        domain => {
            let address = EmailAddress::parse(&format!("x@{domain}")).map_err(|error| {
                wrong("mail.message_id_domain", "must be a host name").caused_by(error)
            })?;
            Some(address.domain().to_owned())
        }
    };
    Ok(BuildOptions {
        message_id_domain: domain,
        dkim: Arc::new(Signers::new(&mail.dkim)?),
        public_url: config.public_url().map_err(unusable)?,
        peppers: config.peppers().map_err(unusable)?,
    })
}

/// The address that bounces go to, to which each mail adds its mark.
#[derive(Debug)]
pub(super) struct ReturnPath {
    base: EmailAddress,
    peppers: Peppers,
}

impl ReturnPath {
    pub(super) fn of(&self, task: TaskId) -> Option<EmailAddress> {
        return_path::address(&self.base, task, &self.peppers)
    }
}

pub(super) fn return_path(config: &Config) -> Result<Option<ReturnPath>, SetupError> {
    let base = config.return_path().map_err(unusable)?;
    let peppers = config.peppers().map_err(unusable)?;
    Ok(base.map(|base| ReturnPath { base, peppers }))
}

impl Settings {
    fn new(name: &str, relay: &config::Relay, helo: ClientId) -> Result<Self, SetupError> {
        let key = |field: &str| format!("mail.relays.{name}.{field}");
        for (field, value) in [
            ("connections", relay.connections as u64),
            (
                "max_mails_per_connection",
                relay.max_mails_per_connection.into(),
            ),
            ("connect_timeout_s", relay.connect_timeout_s),
            ("command_timeout_s", relay.command_timeout_s),
            ("data_timeout_s", relay.data_timeout_s),
            ("port", relay.port.into()),
        ] {
            if value == 0 {
                return Err(wrong(key(field), "must be 1 or more"));
            }
        }
        let client = || tls::Client::new(&relay.host, &relay.ca_file, key);
        let tls = match relay.tls {
            TlsMode::None if relay.host.is_empty() => {
                return Err(wrong(key("host"), "must not be empty"));
            }
            TlsMode::None => Tls::None,
            TlsMode::Starttls => Tls::Starttls(client()?),
            TlsMode::Implicit => Tls::Implicit(client()?),
        };
        let credentials = credentials(&relay.username, relay.password.expose_secret(), key)?;
        if credentials.is_some() && relay.tls == TlsMode::None {
            tracing::warn!(
                smtp.relay = name,
                "the password for this relay is sent unencrypted, since its tls is \"none\""
            );
        }
        Ok(Self {
            name: name.to_owned(),
            host: relay.host.clone(),
            port: relay.port,
            tls,
            credentials,
            helo,
            weight: relay.weight,
            connections: relay.connections,
            connections_total: relay.connections_total,
            max_mails: relay.max_mails_per_connection,
            max_idle: Duration::from_secs(relay.max_idle_s),
            timeouts: Timeouts {
                connect: Duration::from_secs(relay.connect_timeout_s),
                command: Duration::from_secs(relay.command_timeout_s),
                data: Duration::from_secs(relay.data_timeout_s),
            },
        })
    }
}

fn credentials(
    username: &str,
    password: &str,
    key: impl Fn(&str) -> String,
) -> Result<Option<Credentials>, SetupError> {
    match (username, password) {
        ("", "") => Ok(None),
        ("", _) => Err(wrong(key("username"), "is needed, since a password is set")),
        (_, "") => Err(wrong(key("password"), "is needed, since a username is set")),
        // NUL separates the two on the wire (RFC 4616, 2).
        _ if username.contains('\0') || password.contains('\0') => {
            Err(wrong(key("password"), "must not contain NUL"))
        }
        _ => Ok(Some(Credentials::new(
            username.to_owned(),
            password.to_owned(),
        ))),
    }
}

/// The configured name, else the host's, else an address literal (RFC 5321, 4.1.4).
fn helo(configured: &str) -> Result<ClientId, SetupError> {
    let usable = |name: &str| {
        (1..=255).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b))
    };
    if usable(configured) {
        return Ok(ClientId::Domain(configured.to_owned()));
    }
    if !configured.is_empty() {
        return Err(wrong(
            "mail.helo",
            "must be a host name or an address literal",
        ));
    }
    Ok(match ClientId::default() {
        ClientId::Domain(name) if !usable(&name) => ClientId::Ipv4(std::net::Ipv4Addr::LOCALHOST),
        host => host,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(overrides: &[(&str, &str)]) -> String {
        let config = Config::with(overrides).unwrap();
        match (relays(&config.mail), build_options(&config)) {
            (Err(error), _) | (_, Err(error)) => error.to_string(),
            other => panic!("accepted: {other:?}"),
        }
    }

    #[test]
    fn mistakes_name_their_key() {
        for (key, value) in [
            ("mail.relays.default.ca_file", "/nowhere/ca.pem"),
            ("mail.relays.default.host", "not a host"),
            ("mail.relays.default.connect_timeout_s", "0"),
            ("mail.relays.default.max_mails_per_connection", "0"),
            ("mail.message_id_domain", "a b"),
            ("mail.helo", "a\r\nb"),
        ] {
            let said = refused(&[("mail.relays.default.tls", "starttls"), (key, value)]);
            assert!(said.contains(key), "{key}: {said}");
        }
        let said = refused(&[
            ("mail.relays.default.tls", "none"),
            ("mail.relays.default.username", "u"),
        ]);
        assert!(said.contains("mail.relays.default.password"), "{said}");
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let file = std::env::temp_dir().join(format!("warren-empty-{}.pem", std::process::id()));
        std::fs::write(&file, "no certificate\n").unwrap();
        let said = refused(&[("mail.relays.default.ca_file", file.to_str().unwrap())]);
        std::fs::remove_file(&file).unwrap();
        assert!(
            said.contains("mail.relays.default.ca_file holds no certificate"),
            "{said}"
        );
    }

    #[test]
    fn the_first_relay_by_name_comes_first_and_secrets_do_not_print() {
        let config = Config::with(&[
            ("mail.relays.default.tls", "none"),
            ("mail.relays.a.host", "mx.example"),
            ("mail.relays.a.tls", "none"),
            ("mail.relays.a.username", "warren"),
            ("mail.relays.a.password", "hunter2"),
        ])
        .unwrap();
        let relays = relays(&config.mail).unwrap();
        assert_eq!(relays[0].name, "a");
        assert!(!format!("{relays:?}").contains("hunter2"));
    }
}
