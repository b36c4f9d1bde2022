//! Reading requests: the body and its headers, the query, each error a problem that names its place.

use crate::{
    app::AppState,
    problem::{Flaw, Problem, ProblemType},
};
use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    error::PayloadError,
    http::header,
    web::{self, Bytes, Data, Query},
};
use futures_util::StreamExt as _;
use serde::{Deserialize, de::DeserializeOwned};
use shared::fields::{self, FieldError};
use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

/// Between two pieces of a body, and for all of it.
const SILENCE: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(300);

/// A body that says it is JSON and is not empty; not parsed yet.
#[derive(Debug)]
pub struct JsonBody(pub(super) Bytes);

impl FromRequest for JsonBody {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        if let Err(problem) = check_media_type(request) {
            return Box::pin(std::future::ready(Err(problem)));
        }
        let limit = request
            .app_data::<Data<AppState>>()
            .map_or(0, |state| state.config.http.max_body_bytes);
        let reading = Bytes::from_request(request, payload);
        Box::pin(async move {
            let body = reading.await.map_err(|error| unreadable(&error, limit))?;
            if body.is_empty() {
                return Err(Problem::new(ProblemType::EmptyBody));
            }
            Ok(Self(body))
        })
    }
}

/// Likewise, or nothing at all.
#[derive(Debug)]
pub struct OptionalBody(pub(super) Option<Bytes>);

impl FromRequest for OptionalBody {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let headers = request.headers();
        let length = headers.get(header::CONTENT_LENGTH);
        let is_empty = length.is_none_or(|length| length == "0")
            && !headers.contains_key(header::TRANSFER_ENCODING);
        if is_empty {
            return Box::pin(std::future::ready(Ok(Self(None))));
        }
        let body = JsonBody::from_request(request, payload);
        Box::pin(async move { Ok(Self(Some(body.await?.0))) })
    }
}

fn check_media_type(request: &HttpRequest) -> Result<(), Problem> {
    let refuse = |detail: &str| Err(Problem::new(ProblemType::UnsupportedMediaType).detail(detail));
    let headers = request.headers();
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else {
        return refuse("The Content-Type header is missing.");
    };
    if headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return refuse("A Content-Encoding is not supported; send the body as it is.");
    }
    let content_type = content_type.to_str().unwrap_or_default();
    let (media_type, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !media_type.trim().eq_ignore_ascii_case("application/json") {
        return refuse("The Content-Type must be application/json.");
    }
    let is_utf8 = parameters.split(';').all(|parameter| {
        parameter.split_once('=').is_none_or(|(name, value)| {
            !name.trim().eq_ignore_ascii_case("charset")
                || value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
    });
    if !is_utf8 {
        return refuse("JSON is UTF-8 (RFC 8259); other charsets are not supported.");
    }
    Ok(())
}

fn unreadable(error: &actix_web::Error, limit: usize) -> Problem {
    match error.as_error::<PayloadError>() {
        Some(PayloadError::Overflow) => Problem::new(ProblemType::BodyTooLarge).detail(format!(
            "The body has more than the {limit} bytes allowed (http.max_body_bytes)."
        )),
        _ => Problem::new(ProblemType::IncompleteBody),
    }
}

/// Whether JSON is an object. serde's derive reads lists into structs too, which no caller means.
pub(super) fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().starts_with(b"{")
}

/// Parses a body, an object. What is no JSON is a 400, what is other JSON than expected a 422 that names the
/// field.
pub(super) fn parse<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Problem> {
    let not_an_object = || Problem::fields(vec![FieldError::new("", "must be a JSON object")]);
    let error = match serde_json::from_slice(body) {
        Ok(value) if is_object(body) => return Ok(value),
        Ok(_) => return Err(not_an_object()),
        Err(error) => error,
    };
    if error.is_data() {
        if !is_object(body) {
            return Err(not_an_object());
        }
        // Parsed again to find out where: this costs the callers of mistaken requests alone.
        if let Err(error) = fields::parse::<T>(body) {
            return Err(Problem::fields(vec![error]));
        }
    }
    Err(Problem::new(ProblemType::MalformedJson).detail(format!(
        "Reading stopped at line {} column {}.",
        error.line(),
        error.column()
    )))
}

/// A body that is not JSON, of at most so many bytes (`key` of the configuration).
pub(super) async fn read_body(
    mut payload: web::Payload,
    most: usize,
    key: &str,
) -> Result<Vec<u8>, Problem> {
    let begin = Instant::now();
    let mut body = Vec::new();
    loop {
        // Whoever has gone without a word keeps nothing.
        let next = tokio::time::timeout(SILENCE, payload.next()).await;
        let Some(chunk) = next.map_err(|_| Problem::new(ProblemType::IncompleteBody))? else {
            return Ok(body);
        };
        let chunk = chunk.map_err(|_| Problem::new(ProblemType::IncompleteBody))?;
        if begin.elapsed() > LONGEST {
            return Err(Problem::new(ProblemType::IncompleteBody));
        }
        if body.len() + chunk.len() > most {
            return Err(body_too_large(most, key));
        }
        body.extend_from_slice(&chunk);
    }
}

pub(super) fn body_too_large(most: usize, key: &str) -> Problem {
    Problem::new(ProblemType::BodyTooLarge).detail(format!(
        "The body has more than the {most} bytes allowed ({key})."
    ))
}

/// The query's parameters, decoded, in their order.
pub(super) fn parameters(request: &HttpRequest) -> Vec<(String, String)> {
    from_query(request.query_string()).unwrap_or_default()
}

fn from_query<T: DeserializeOwned>(query: &str) -> Option<T> {
    Query::from_query(query).ok().map(Query::into_inner)
}

/// 400 for one parameter of the query.
pub(super) fn bad_parameter(name: &str, detail: impl Into<String>) -> Problem {
    Problem::flaws(
        ProblemType::InvalidParameters,
        vec![Flaw::parameter(name, detail)],
    )
}

/// 400 for a parameter that an endpoint does not have.
pub(super) fn unknown_parameter(name: &str, known: &[&str]) -> Flaw {
    Flaw::parameter(
        name,
        format!(
            "is not a parameter of this endpoint, which has {}",
            known.join(", ")
        ),
    )
}

/// The W3C trace context of the caller, if it sent a valid one (version 00).
pub(super) fn traceparent(request: &HttpRequest) -> Option<String> {
    let text = request.headers().get("traceparent")?.to_str().ok()?;
    let lengths = text.split('-').map(str::len);
    let is_hex = text
        .bytes()
        .all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (is_hex && text.starts_with("00-") && lengths.eq([2, 32, 16, 2])).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn media_type(headers: &[(&'static str, &'static str)]) -> bool {
        let mut request = TestRequest::default();
        for header in headers {
            request = request.insert_header(*header);
        }
        check_media_type(&request.to_http_request()).is_ok()
    }

    #[test]
    fn json_in_utf8_is_taken() {
        for content_type in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
        ] {
            assert!(
                media_type(&[("content-type", content_type)]),
                "{content_type}"
            );
        }
        for content_type in [
            "text/plain",
            "application/json; charset=latin1",
            "application/jsonx",
            "",
        ] {
            assert!(
                !media_type(&[("content-type", content_type)]),
                "{content_type}"
            );
        }
        assert!(!media_type(&[]));
        assert!(!media_type(&[
            ("content-type", "application/json"),
            ("content-encoding", "gzip")
        ]));
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, expecting = "an object")]
    struct Sample<'a> {
        #[serde(borrow)]
        _raw: Option<&'a serde_json::value::RawValue>,
        _n: Option<u8>,
    }

    #[test]
    fn mistakes_in_a_body_are_told_apart() {
        assert!(parse::<Sample<'_>>(br#"{"_raw":{"a":[1]},"_n":1}"#).is_ok());
        for (body, kind, pointer) in [
            (&b"{"[..], ProblemType::MalformedJson, None),
            (b"{\"_n\":1} x", ProblemType::MalformedJson, None),
            (b"\xff", ProblemType::MalformedJson, None),
            (b"[]", ProblemType::InvalidFields, Some("")),
            (b"{\"_n\":\"x\"}", ProblemType::InvalidFields, Some("/_n")),
            (b"{\"x\":1}", ProblemType::InvalidFields, Some("/x")),
        ] {
            let problem = parse::<Sample<'_>>(body).unwrap_err();
            assert_eq!(problem.kind, kind, "{body:?}");
            let found = problem
                .errors()
                .first()
                .and_then(|flaw| flaw.pointer.as_deref());
            assert_eq!(found, pointer, "{body:?}");
        }
    }

    #[test]
    fn only_valid_trace_contexts_are_kept() {
        let traced = |value: &'static str| {
            traceparent(
                &TestRequest::default()
                    .insert_header(("traceparent", value))
                    .to_http_request(),
            )
        };
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(traced(valid).as_deref(), Some(valid));
        assert_eq!(traced("00-xyz"), None);
        assert_eq!(
            traced("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            None
        );
    }
}
