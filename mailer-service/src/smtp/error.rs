//! What became of a mail that was not taken.

use std::{error::Error, time::Duration};

/// Stable machine codes of [`SendError::code`]; they are wire forms and are never reused.
pub mod code {
    pub const CONNECT_FAILED: &str = "smtp_connect_failed";
    pub const TLS_FAILED: &str = "smtp_tls_failed";
    pub const AUTH_FAILED: &str = "smtp_auth_failed";
    pub const RELAY_REFUSED: &str = "smtp_relay_refused";
    pub const NOT_BEGUN: &str = "smtp_not_begun";
    pub const BUSY: &str = "smtp_busy";
    pub const TIMEOUT: &str = "smtp_timeout";
    pub const CONNECTION_LOST: &str = "smtp_connection_lost";
    pub const PROTOCOL_ERROR: &str = "smtp_protocol_error";
    pub const SERVICE_CLOSING: &str = "smtp_421";
    pub const GREYLISTED: &str = "smtp_greylisted";
    pub const TEMPORARY: &str = "smtp_temporary";
    pub const PERMANENT: &str = "smtp_permanent";
    pub const OUTCOME_UNKNOWN: &str = "smtp_outcome_unknown";
    pub const MESSAGE_TOO_LARGE: &str = "smtp_message_too_large";
    pub const SMTPUTF8_UNSUPPORTED: &str = "smtp_smtputf8_unsupported";
    pub const RELAY_RATE: &str = "smtp_relay_rate";
    pub const DOMAIN_SLOWED: &str = "smtp_domain_slowed";
    pub const NOT_BUILDABLE: &str = "mail_not_buildable";
    pub const NOT_SIGNED: &str = "mail_not_signed";
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The mail was not taken; try again after the kind's usual wait.
    Retry,
    /// The mail was not taken; a try before this wait is pointless.
    RetryAfter(Duration),
    /// The mail will never be taken as it is.
    Fail,
    /// Nothing was tried, since its turn comes later.
    PutOff(Duration),
    /// Nothing was tried.
    NotBegun,
    /// The relay may or may not have the mail: the final dot may have reached it, its reply did not
    /// reach us (RFC 5321, 4.5.3.2.6). Another try may repeat the mail.
    UnknownOutcome,
}

/// A mail that the relay did not take, or may not have taken. Holds no mail address.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {text}")]
pub struct SendError {
    pub class: Class,
    /// One of [`code`].
    pub code: &'static str,
    /// The relay's reply code, if it replied.
    pub smtp_code: Option<u16>,
    /// The reply's enhanced status code (RFC 3463), e.g. `5.1.1`.
    pub enhanced: Option<String>,
    /// For the task's error: the relay's words after its codes, or ours where it said nothing. One line, at most
    /// 300 characters, addresses masked.
    pub text: String,
    /// The recipient was named before, so that the reply may be their domain's.
    pub names_recipient: bool,
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl SendError {
    pub(super) fn new(class: Class, code: &'static str, text: impl Into<String>) -> Self {
        Self {
            class,
            code,
            smtp_code: None,
            enhanced: None,
            text: text.into(),
            names_recipient: false,
            source: None,
        }
    }

    /// The recipient's domain wants fewer mails, for now.
    pub(super) fn asks_for_less(&self) -> bool {
        let is_policy = |code: &str| code.starts_with("4.7.");
        self.names_recipient
            && (self.smtp_code == Some(421) || self.enhanced.as_deref().is_some_and(is_policy))
    }

    pub(super) fn put_off(wait: Duration, code: &'static str, text: &str) -> Self {
        Self::new(Class::PutOff(wait), code, text)
    }

    pub(super) fn not_begun() -> Self {
        Self::new(
            Class::NotBegun,
            code::NOT_BEGUN,
            "the attempt ended before its turn",
        )
    }

    pub(super) fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same failure for another mail; the source stays with the first.
    pub(super) fn again(&self) -> Self {
        Self {
            smtp_code: self.smtp_code,
            enhanced: self.enhanced.clone(),
            ..Self::new(self.class, self.code, &*self.text)
        }
    }
}
