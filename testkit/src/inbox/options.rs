//! How an inbox is to behave: addresses, limits, authentication.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// Any free port of the loopback interface, so that tests run side by side.
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Everything that can be chosen about an [`Inbox`](super::Inbox); the default suits a test.
#[derive(Debug, Clone)]
pub struct InboxOptions {
    /// SMTP with STARTTLS.
    pub smtp: SocketAddr,
    /// SMTP over implicit TLS; `None` opens no such port.
    pub smtps: Option<SocketAddr>,
    /// REST API and web page.
    pub http: SocketAddr,
    /// The name in the greeting.
    pub hostname: String,
    /// Which credentials AUTH accepts.
    pub auth: Auth,
    /// Refuse MAIL before a successful AUTH.
    pub require_auth: bool,
    /// EHLO keywords that are neither offered nor honoured, e.g. `STARTTLS`, `SMTPUTF8`, `8BITMIME`, `AUTH`.
    pub without: Vec<String>,
    /// Keep the mails themselves. `false` is the light mode for benchmarks: only envelope, time and the
    /// value of [`TASK_HEADER`](super::TASK_HEADER) are kept.
    pub keep_raw: bool,
    /// Messages kept; beyond it the oldest are dropped and counted.
    pub max_messages: usize,
    /// Memory for messages in bytes; beyond it the oldest are dropped and counted. The newest is always kept.
    pub max_bytes: usize,
    /// The largest mail accepted in bytes, offered as SIZE (RFC 1870).
    pub max_message_size: usize,
    /// Octets of a text line with its CRLF (RFC 5321, 4.5.3.1.6).
    pub max_text_line: usize,
    /// Recipients of one mail.
    pub max_recipients: usize,
    /// Connections at once; further ones are told 421.
    pub max_connections: usize,
    /// Longest silence of a client before it is told 421.
    pub command_timeout: Duration,
}

/// Which credentials AUTH accepts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// Any user with any password.
    #[default]
    Any,
    /// This one only.
    Fixed { user: String, password: String },
}

impl Auth {
    pub(super) fn accepts(&self, user: &str, password: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Fixed {
                user: wanted_user,
                password: wanted_password,
            } => user == wanted_user && password == wanted_password,
        }
    }
}

impl Default for InboxOptions {
    fn default() -> Self {
        Self {
            smtp: ANY_PORT,
            smtps: Some(ANY_PORT),
            http: ANY_PORT,
            hostname: "localhost".to_owned(),
            auth: Auth::Any,
            require_auth: false,
            without: Vec::new(),
            keep_raw: true,
            max_messages: 100_000,
            max_bytes: 512 * 1024 * 1024,
            max_message_size: 25 * 1024 * 1024,
            max_text_line: 1000,
            max_recipients: 1000,
            max_connections: 1000,
            command_timeout: Duration::from_secs(300),
        }
    }
}

impl InboxOptions {
    /// Whether the EHLO keyword is offered.
    pub(super) fn offers(&self, keyword: &str) -> bool {
        !self
            .without
            .iter()
            .any(|hidden| hidden.eq_ignore_ascii_case(keyword))
    }
}
