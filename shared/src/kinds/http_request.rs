//! `http.request`: one call of somebody's HTTP endpoint.

mod headers;
mod status;

pub use status::StatusRule;

use super::{AcceptDefaults, Kind};
use crate::{
    backoff::Backoff,
    fields::FieldError,
    outbound::{EndpointUrl, secret},
    task::{Limits, Queue},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{collections::BTreeMap, fmt, time::Duration};

/// Rules that one list may hold.
const MOST_RULES: usize = 50;

const SUCCESS_ON: [StatusRule; 1] = [StatusRule::Class(2)];
const RETRY_ON: [StatusRule; 4] = [
    StatusRule::Status(408),
    StatusRule::Status(425),
    StatusRule::Status(429),
    StatusRule::Class(5),
];

/// The payload. The endpoint's status decides: `success_on`, then `retry_on`, else the task fails.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpRequest {
    /// `https://`, public, on one of the configured ports; the configuration may allow more (`[outbound]`).
    #[schema(value_type = String, format = "uri", example = "https://example.com/hooks/orders")]
    pub url: EndpointUrl,
    /// `POST` when left out.
    #[serde(default)]
    pub method: Method,
    /// Further headers, e.g. `{"Authorization": "Bearer …"}`. `Idempotency-Key` is the task's id when left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body: any JSON, sent byte for byte as it stands here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub body: Option<Box<RawValue>>,
    /// The body as a text, instead of `body`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// `application/json` for `body` and `text/plain; charset=utf-8` for `text` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// How long the call may take in all; `outbound.timeout_s` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub timeout_s: Option<u32>,
    /// The name of the secret that signs the request by Standard Webhooks; `none` for no signature. When left out,
    /// `default`, if a secret of that name is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<String>,
    /// How many redirects are followed; 0 when left out. Each is checked as the URL is. Headers and signature stay
    /// with the origin of the URL.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub max_redirects: u8,
    /// Statuses that complete the task; `["2xx"]` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<serde_json::Value>>, example = json!(["2xx", 409]))]
    pub success_on: Option<Vec<StatusRule>>,
    /// Statuses after which another attempt is made; `[408, 425, 429, "5xx"]` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<serde_json::Value>>, example = json!([429, "5xx"]))]
    pub retry_on: Option<Vec<StatusRule>>,
}

/// Headers and bodies hold what must not print.
impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("url", &self.url)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u8) -> bool {
    *number == 0
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Get,
    #[default]
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    /// Whether a repeat does no more than the first call (RFC 9110, 9.2.2).
    pub const fn is_idempotent(self) -> bool {
        matches!(self, Self::Get | Self::Put | Self::Delete)
    }
}

/// What the endpoint answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HttpAnswered {
    pub status: u16,
    /// Those of its headers that describe the body or name the request, e.g. `content-type`, `etag`, `x-request-id`.
    pub headers: BTreeMap<String, String>,
    /// The body, up to `outbound.max_response_bytes`.
    pub body: String,
    pub body_encoding: BodyEncoding,
    /// The body was longer, or broke off.
    pub truncated: bool,
    /// The name of the secret that signed the request.
    pub signed_by: Option<String>,
    /// Redirects that were followed.
    pub redirects: u8,
    pub duration_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BodyEncoding {
    /// As it is: text.
    Utf8,
    Base64,
}

/// What a status means for the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    Success,
    Retry,
    Failure,
}

impl HttpRequest {
    pub fn meaning_of(&self, status: u16) -> Meaning {
        let fits = |rules: &Option<Vec<StatusRule>>, otherwise: &[StatusRule]| {
            let rules = rules.as_deref().unwrap_or(otherwise);
            rules.iter().any(|rule| rule.fits(status))
        };
        if fits(&self.success_on, &SUCCESS_ON) {
            Meaning::Success
        } else if fits(&self.retry_on, &RETRY_ON) {
            Meaning::Retry
        } else {
            Meaning::Failure
        }
    }

    /// The bytes that are sent and signed.
    pub fn body_bytes(&self) -> &[u8] {
        match (&self.body, &self.text) {
            (Some(json), _) => json.get().as_bytes(),
            (None, Some(text)) => text.as_bytes(),
            (None, None) => &[],
        }
    }

    /// None: there is no body.
    pub fn body_type(&self) -> Option<&str> {
        let usual = match (&self.body, &self.text) {
            (Some(_), _) => "application/json",
            (None, Some(_)) => "text/plain; charset=utf-8",
            (None, None) => return None,
        };
        Some(self.content_type.as_deref().unwrap_or(usual))
    }

    /// The secret to sign with.
    pub fn signed_by(&self) -> Option<&str> {
        self.sign
            .as_deref()
            .filter(|name| *name != secret::UNSIGNED)
    }

    fn check_body(&self, error: &mut impl FnMut(&str, String)) {
        if self.body.is_some() && self.text.is_some() {
            error("/text", "can't be given together with body".into());
        }
        if self.method == Method::Get && self.body_type().is_some() {
            let field = if self.body.is_some() {
                "/body"
            } else {
                "/text"
            };
            error(field, "a GET has none; use another method".into());
        }
        let Some(content_type) = &self.content_type else {
            return;
        };
        if self.body_type().is_none() {
            error("/content_type", "is of no use without body or text".into());
        }
        if !content_type.contains('/') || headers::check_value(content_type).is_err() {
            error(
                "/content_type",
                "must be a media type such as application/json".into(),
            );
        }
    }
}

impl Kind for HttpRequest {
    const NAME: &'static str = "http.request";
    const QUEUE: Queue = Queue::Work;
    const LIMITS: Limits = Limits::DEFAULT;
    /// 10 attempts over about ten hours: an endpoint that was broken overnight still hears of it.
    const BACKOFF: Backoff = Backoff {
        max_attempts: 10,
        first: Duration::from_secs(1),
        factor: 4,
        longest: Duration::from_secs(4 * 3600),
    };
    const MARKS_POINT: bool = true;
    type Output = HttpAnswered;

    fn prepare(&mut self, defaults: &AcceptDefaults) -> Result<(), Vec<FieldError>> {
        let policy = &defaults.outbound;
        let mut errors = Vec::new();
        let mut error =
            |pointer: &str, detail: String| errors.push(FieldError::new(pointer, detail));
        if self.url.as_str().len() > policy.max_url_bytes {
            let detail = format!(
                "is longer than {} bytes (outbound.max_url_bytes)",
                policy.max_url_bytes
            );
            error("/url", detail);
        }
        if let Err(refusal) = policy.guard.check_url(&self.url) {
            error("/url", refusal.to_string());
        }
        self.check_body(&mut error);
        let timeout = *self.timeout_s.get_or_insert(policy.timeout_s);
        if !(1..=policy.max_timeout_s).contains(&timeout) {
            error(
                "/timeout_s",
                format!(
                    "must be 1 to {} (outbound.max_timeout_s)",
                    policy.max_timeout_s
                ),
            );
        }
        if self.max_redirects > policy.max_redirects {
            error(
                "/max_redirects",
                format!(
                    "must be at most {} (outbound.max_redirects)",
                    policy.max_redirects
                ),
            );
        }
        if self.sign.is_none() && policy.secrets.contains(secret::DEFAULT) {
            self.sign = Some(secret::DEFAULT.to_owned());
        }
        if self
            .signed_by()
            .is_some_and(|name| !policy.secrets.contains(name))
        {
            error(
                "/sign",
                "no secret of that name is configured (outbound.secrets)".into(),
            );
        }
        for (pointer, rules) in [
            ("/success_on", &self.success_on),
            ("/retry_on", &self.retry_on),
        ] {
            if rules.as_ref().is_some_and(|rules| rules.len() > MOST_RULES) {
                error(pointer, format!("has more than {MOST_RULES} entries"));
            }
        }
        if self.headers.len() > defaults.max_headers {
            error(
                "/headers",
                format!(
                    "has more than {} entries (limits.max_headers)",
                    defaults.max_headers
                ),
            );
        }
        errors.extend(self.headers.iter().filter_map(|(name, value)| {
            let pointer = || format!("/headers/{}", name.replace('~', "~0").replace('/', "~1"));
            headers::check(name, value)
                .err()
                .map(|detail| FieldError::new(pointer(), detail))
        }));
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }
}

#[cfg(test)]
mod tests;
