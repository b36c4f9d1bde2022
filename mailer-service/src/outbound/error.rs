//! What became of a call that has no answer.

use shared::outbound::{EndpointUrl, Refusal};
use std::{error::Error, time::Duration};

/// Stable machine codes of [`CallError::code`]; they are wire forms and are never reused.
pub mod code {
    pub const ADDRESS_REFUSED: &str = "http_address_refused";
    pub const URL_REFUSED: &str = "http_url_refused";
    pub const BUSY: &str = "http_busy";
    pub const DNS: &str = "http_dns";
    pub const CONNECT: &str = "http_connect";
    pub const TLS: &str = "http_tls";
    pub const TIMEOUT: &str = "http_timeout";
    pub const CONNECTION_LOST: &str = "http_connection_lost";
    pub const PROTOCOL_ERROR: &str = "http_protocol_error";
    pub const REDIRECT: &str = "http_redirect";
    pub const STATUS: &str = "http_status";
    pub const SECRET_MISSING: &str = "http_secret_missing";
    pub const OUTCOME_UNKNOWN: &str = "http_outcome_unknown";
    pub const NOT_BUILDABLE: &str = "http_not_buildable";
    pub const NOT_BEGUN: &str = "http_not_begun";
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Nothing was done, or a repeat does no more than the first call; try again after the kind's usual wait.
    Retry,
    /// A try before this wait is pointless.
    RetryAfter(Duration),
    /// No call will succeed as it is.
    Fail,
    /// Nothing was tried.
    NotBegun,
    /// The endpoint may have acted on the request, but its answer did not reach us. Another try may repeat it.
    UnknownOutcome,
}

/// A call without an answer. Holds the host, and nothing else of URL, headers and bodies.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {text}")]
pub struct CallError {
    pub class: Class,
    /// One of [`code`].
    pub code: &'static str,
    pub text: String,
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl CallError {
    pub(super) fn new(class: Class, code: &'static str, text: impl Into<String>) -> Self {
        Self {
            class,
            code,
            text: text.into(),
            source: None,
        }
    }

    /// An error about one endpoint, whose host is named.
    pub(super) fn at(url: &EndpointUrl, class: Class, code: &'static str, what: &str) -> Self {
        Self::new(class, code, format!("{}: {what}", url.host()))
    }

    pub(super) fn refused(url: &EndpointUrl, refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Address(_) => code::ADDRESS_REFUSED,
            Refusal::Port(_) | Refusal::PlainHttp => code::URL_REFUSED,
        };
        Self::at(url, Class::Fail, code, &format!("the URL {refusal}"))
    }

    pub(super) fn not_begun() -> Self {
        let text = "the attempt ended before its turn";
        Self::new(Class::NotBegun, code::NOT_BEGUN, text)
    }

    pub(super) fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}
