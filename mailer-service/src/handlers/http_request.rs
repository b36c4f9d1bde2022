//! `http.request`: calls the endpoint and says what its answer means.

use super::{Context, Handler, Services};
use crate::{
    outbound::{self, Answer, Call, CallError, Class, Ending, code},
    task::{Failure, TaskError},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::{
    Method,
    body::Bytes,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use shared::kinds::{
    HttpAnswered, HttpRequest,
    http_request::{self, BodyEncoding, Meaning},
};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

/// Headers of the answer that are kept.
const KEPT: [&str; 12] = [
    "content-encoding",
    "content-language",
    "content-type",
    "date",
    "etag",
    "last-modified",
    "location",
    "request-id",
    "retry-after",
    "server",
    "x-correlation-id",
    "x-request-id",
];
/// A longer value is left out.
const LONGEST_KEPT: usize = 1024;

impl Handler for HttpRequest {
    async fn run(self, context: &Context, services: &Services) -> Result<HttpAnswered, TaskError> {
        let token = context.idempotency_token();
        let call = call(&self, &token)?;
        let answer = services
            .outbound
            .call(&call, context, context.deadline)
            .await
            .map_err(verdict)?;
        judge(&self, answer, services.outbound.max_retry_after())
    }
}

fn call<'a>(request: &'a HttpRequest, token: &'a str) -> Result<Call<'a>, TaskError> {
    let mut headers = HeaderMap::with_capacity(request.headers.len() + 1);
    headers.insert("idempotency-key", value(token)?);
    for (name, text) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit("a header's name"))?;
        headers.insert(name, value(text)?);
    }
    Ok(Call {
        url: &request.url,
        method: match request.method {
            http_request::Method::Get => Method::GET,
            http_request::Method::Post => Method::POST,
            http_request::Method::Put => Method::PUT,
            http_request::Method::Patch => Method::PATCH,
            http_request::Method::Delete => Method::DELETE,
        },
        headers,
        body: Bytes::copy_from_slice(request.body_bytes()),
        content_type: request.body_type().map(value).transpose()?,
        signature: request
            .signed_by()
            .map(|secret| outbound::Signature { secret, id: token }),
        max_redirects: request.max_redirects,
        // Filled in at the door.
        timeout: Duration::from_secs(request.timeout_s.unwrap_or(1).into()),
        is_repeatable: request.method.is_idempotent(),
    })
}

fn value(text: &str) -> Result<HeaderValue, TaskError> {
    HeaderValue::from_str(text).map_err(|_| unfit("a header's value"))
}

/// What the API lets through fits; a row that was changed by hand may not.
fn unfit(what: &str) -> TaskError {
    let text = format!("{what} can't be put into HTTP");
    TaskError::Fail(Failure::new(code::NOT_BUILDABLE, text))
}

/// What the answer's status means for the task.
fn judge(
    request: &HttpRequest,
    answer: Answer,
    longest_wait: Duration,
) -> Result<HttpAnswered, TaskError> {
    let status = answer.status;
    let host = request.url.host();
    let failure = || Failure::new(code::STATUS, format!("{host}: answered {status}"));
    match request.meaning_of(status.as_u16()) {
        // Without its body the answer to such a request is of no use, and asking again harms nobody.
        Meaning::Success if answer.ending == Ending::Broken && request.method.is_idempotent() => {
            let text =
                format!("{host}: answered {status}, and the connection broke within the body");
            Err(TaskError::Retry(Failure::new(code::CONNECTION_LOST, text)))
        }
        Meaning::Success => Ok(answered(request, answer)),
        // Asked again from the beginning, the endpoint before the redirect would act again.
        Meaning::Retry if answer.has_acted && !request.method.is_idempotent() => {
            let text = format!(
                "{host}: answered {status}; the endpoint before the redirect may have acted on the request"
            );
            Err(TaskError::Unclear(Failure::new(
                code::OUTCOME_UNKNOWN,
                text,
            )))
        }
        Meaning::Retry => {
            let wait = outbound::retry_after(&answer.headers, SystemTime::now());
            Err(match wait {
                Some(wait) => TaskError::RetryAfter(wait.min(longest_wait), failure()),
                None => TaskError::Retry(failure()),
            })
        }
        Meaning::Failure if outbound::is_redirect(status, &answer.headers) => {
            let text = format!(
                "{host}: answered {status}, a redirect that is not followed (max_redirects)"
            );
            Err(TaskError::Fail(Failure::new(code::REDIRECT, text)))
        }
        Meaning::Failure => Err(TaskError::Fail(failure())),
    }
}

fn answered(request: &HttpRequest, answer: Answer) -> HttpAnswered {
    let kept = |name: &&str| {
        let text = answer.headers.get(*name)?.to_str().ok()?;
        (text.len() <= LONGEST_KEPT).then(|| ((*name).to_owned(), text.to_owned()))
    };
    let headers: BTreeMap<_, _> = KEPT.iter().filter_map(kept).collect();
    let truncated = answer.ending != Ending::Whole;
    let (body, body_encoding) = text_of(answer.body, truncated);
    HttpAnswered {
        status: answer.status.as_u16(),
        headers,
        body,
        body_encoding,
        truncated,
        signed_by: request.signed_by().map(str::to_owned),
        redirects: answer.redirects,
        duration_ms: u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Text as it is, everything else in base64. A cut may have gone through a character, which is left out then.
fn text_of(mut body: Vec<u8>, truncated: bool) -> (String, BodyEncoding) {
    if let (true, Err(error)) = (truncated, std::str::from_utf8(&body))
        && error.error_len().is_none()
    {
        body.truncate(error.valid_up_to());
    }
    match String::from_utf8(body) {
        // PostgreSQL's JSON can't hold NUL for every use.
        Ok(text) if !text.contains('\0') => (text, BodyEncoding::Utf8),
        Ok(text) => (BASE64_STANDARD.encode(text), BodyEncoding::Base64),
        Err(error) => (
            BASE64_STANDARD.encode(error.as_bytes()),
            BodyEncoding::Base64,
        ),
    }
}

fn verdict(error: CallError) -> TaskError {
    let failure = Failure::new(error.code, error.text);
    match error.class {
        Class::Retry => TaskError::Retry(failure),
        Class::RetryAfter(wait) => TaskError::RetryAfter(wait, failure),
        Class::Fail => TaskError::Fail(failure),
        Class::NotBegun => TaskError::Interrupted,
        // The endpoint can recognise the repeat by its webhook-id and Idempotency-Key.
        Class::UnknownOutcome => TaskError::Unclear(failure),
    }
}

#[cfg(test)]
mod tests;
