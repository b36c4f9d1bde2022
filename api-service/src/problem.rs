//! Errors as callers see them: RFC 9457 `application/problem+json`, each a row of [`ProblemType`].
//!
//! What went wrong inside never reaches the caller: a problem may carry its cause, which is logged once,
//! together with the request id, where the answer leaves the service ([`crate::app`]).

mod flaw;
mod page;
mod table;

pub use flaw::Flaw;
pub use page::page;
pub use table::ProblemType;

use crate::budget::{Refusal, whole_seconds};
use actix_web::{
    HttpResponse, HttpResponseBuilder, ResponseError,
    http::{StatusCode, header},
};
use serde::Serialize;
use shared::{
    db::{self, DbError},
    fields::FieldError,
};
use std::{error::Error, fmt, sync::Arc};

/// The media type of every error.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// An error on its way to the caller.
#[derive(Debug, Clone)]
pub struct Problem {
    pub kind: ProblemType,
    /// Boxed, since results carry problems through every handler.
    occurrence: Box<Occurrence>,
}

#[derive(Debug, Clone, Default)]
struct Occurrence {
    detail: Option<String>,
    errors: Vec<Flaw>,
    known_kinds: Vec<&'static str>,
    allow: Option<String>,
    /// Seconds, where this occurrence knows better than its row.
    retry_after: Option<u64>,
    tries_left: Option<i32>,
    request_id: Option<Arc<str>>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Problem {
    pub fn new(kind: ProblemType) -> Self {
        Self {
            kind,
            occurrence: Box::default(),
        }
    }

    /// This occurrence in a sentence; never internal text.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.occurrence.detail = Some(detail.into());
        self
    }

    /// 422 for fields of the body.
    pub fn fields(errors: Vec<FieldError>) -> Self {
        Self::flaws(
            ProblemType::InvalidFields,
            errors.into_iter().map(Flaw::from).collect(),
        )
    }

    pub fn flaws(kind: ProblemType, errors: Vec<Flaw>) -> Self {
        let mut problem = Self::new(kind);
        problem.occurrence.errors = errors;
        problem
    }

    /// 422 for a kind that is not among `known`.
    pub fn unknown_kind(known: Vec<&'static str>) -> Self {
        let flaw = FieldError::new("/kind", "must be one of known_kinds").into();
        let mut problem = Self::flaws(ProblemType::UnknownKind, vec![flaw]);
        problem.occurrence.known_kinds = known;
        problem
    }

    /// 405 with its `Allow` header.
    pub fn method_not_allowed(allow: String) -> Self {
        let mut problem = Self::new(ProblemType::MethodNotAllowed);
        problem.occurrence.allow = Some(allow);
        problem
    }

    /// When to try again, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.occurrence.retry_after = Some(seconds);
        self
    }

    /// How often a code may still be tried.
    #[must_use]
    pub fn tries_left(mut self, left: i32) -> Self {
        self.occurrence.tries_left = Some(left);
        self
    }

    /// 500; the cause is logged and not shown.
    pub fn internal(source: impl Error + Send + Sync + 'static) -> Self {
        Self::new(ProblemType::Internal).caused_by(source)
    }

    #[must_use]
    pub fn caused_by(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.occurrence.source = Some(Arc::new(source));
        self
    }

    /// What is wrong with the request, field by field.
    pub fn errors(&self) -> &[Flaw] {
        &self.occurrence.errors
    }

    /// What to log, if this problem has a cause inside the service.
    pub fn cause(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.occurrence.source.as_deref()?;
        Some(source as &(dyn Error + 'static))
    }

    /// Names the request that it happened to.
    #[must_use]
    pub fn of_request(mut self, id: &str) -> Self {
        self.occurrence.request_id = Some(id.into());
        self
    }

    /// The body.
    pub fn to_json(&self) -> String {
        let occurrence = &self.occurrence;
        let body = Body {
            uri: self.kind.uri(),
            title: self.kind.title(),
            status: self.kind.status(),
            detail: occurrence.detail.as_deref(),
            instance: occurrence
                .request_id
                .as_ref()
                .map(|id| format!("urn:request:{id}")),
            errors: &occurrence.errors,
            known_kinds: &occurrence.known_kinds,
            tries_left: occurrence.tries_left,
        };
        serde_json::to_string(&body).unwrap_or_default()
    }
}

/// The wire form of a problem.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    uri: &'a str,
    title: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Flaw],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    known_kinds: &'a [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    tries_left: Option<i32>,
}

/// `application/problem+json` (RFC 9457).
#[derive(Debug, utoipa::ToSchema)]
#[schema(as = Problem)]
#[expect(
    dead_code,
    reason = "describes the wire form of a problem in the OpenAPI document"
)]
pub struct ProblemSchema {
    /// Which problem it is; `GET` it for an explanation.
    #[schema(rename = "type", example = "/problems/invalid-fields")]
    uri: String,
    /// The same for every occurrence.
    #[schema(example = "Some fields are not valid")]
    title: String,
    /// The HTTP status.
    #[schema(example = 422)]
    status: u16,
    /// This occurrence in a sentence.
    detail: Option<String>,
    /// The request it happened to: `urn:request:` and the X-Request-Id.
    instance: Option<String>,
    /// What is wrong with the request, field by field.
    errors: Option<Vec<Flaw>>,
    /// With `unknown-kind`: the kinds there are.
    known_kinds: Option<Vec<String>>,
    /// With `wrong-code`: how often it may still be tried.
    tries_left: Option<i32>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.slug())
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponseBuilder::new(self.status_code());
        response
            .insert_header((header::CONTENT_TYPE, CONTENT_TYPE))
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
        if let Some(id) = &self.occurrence.request_id {
            response.insert_header(("x-request-id", id.as_ref()));
        }
        let usual = || self.kind.retry_after().map(u64::from);
        if let Some(seconds) = self.occurrence.retry_after.or_else(usual) {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        if self.status_code() == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"warren\""));
        }
        if let Some(allow) = &self.occurrence.allow {
            response.insert_header((header::ALLOW, allow.as_str()));
        }
        response.body(self.to_json())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Rate(wait) => {
                Self::new(ProblemType::RateLimited).retry_after(whole_seconds(wait))
            }
            Refusal::Quota { wait, left } => Self::new(ProblemType::QuotaExhausted)
                .detail(format!("The key has {left} tasks left until midnight UTC."))
                .retry_after(whole_seconds(wait)),
            Refusal::TooLarge(daily) => Self::fields(vec![FieldError::new(
                "",
                format!(
                    "makes more tasks than the API key's daily quota has, {daily}; send several requests, or change it by `api-service key limit`"
                ),
            )]),
            Refusal::Unavailable => Self::new(ProblemType::DatabaseUnavailable)
                .detail("The API key's daily quota can't be looked at. Nothing was stored."),
        }
    }
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        let is_passing = match &error {
            DbError::Unavailable(_) => true,
            DbError::Refused(refused) => db::is_passing(refused),
            DbError::Migration(_) => false,
        };
        if is_passing {
            Self::new(ProblemType::DatabaseUnavailable).caused_by(error)
        } else {
            Self::internal(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_sound() {
        for (index, row) in ProblemType::ALL.iter().enumerate() {
            assert_eq!(ProblemType::find(row.slug()), Some(*row));
            assert!(
                ProblemType::ALL[index + 1..]
                    .iter()
                    .all(|other| other.slug() != row.slug())
            );
            assert!((400..600).contains(&row.status()));
            let passes = [429, 503].contains(&row.status());
            assert_eq!(passes, row.retry_after().is_some(), "{row:?}");
            let response = Problem::new(*row).of_request("r1").error_response();
            assert_eq!(response.status().as_u16(), row.status());
            let headers = response.headers();
            assert_eq!(headers.get("content-type").unwrap(), CONTENT_TYPE);
            assert_eq!(headers.contains_key("retry-after"), passes);
            assert_eq!(
                headers.contains_key("www-authenticate"),
                row.status() == 401
            );
            assert!(page(*row).contains(row.title()));
        }
    }

    #[test]
    fn the_wire_form() {
        let problem = Problem::fields(vec![FieldError::new("/payload/to", "must not be empty")])
            .of_request("r1");
        assert_eq!(
            problem.to_json(),
            r#"{"type":"/problems/invalid-fields","title":"Some fields are not valid","status":422,"instance":"urn:request:r1","errors":[{"pointer":"/payload/to","detail":"must not be empty"}]}"#
        );
    }

    #[test]
    fn causes_stay_inside() {
        let problem = Problem::internal(std::io::Error::other("secret path"));
        assert!(!problem.to_json().contains("secret"));
        assert!(problem.cause().is_some());
    }
}
