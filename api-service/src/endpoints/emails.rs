//! `POST /emails`: one mail to its recipients, as one task and one SMTP envelope for each, so that one bad
//! address sinks nobody else's copy.

mod accepted;
mod attachments;
pub mod batch;
mod copies;
pub mod outcome;
pub mod show;

pub use accepted::{EmailAnswer, RecipientTask};
pub use attachments::AttachmentRequest;
pub(super) use copies::Mail;

use crate::{
    app::{AppState, Endpoint},
    auth::{Caller, Submitter},
    endpoints::{
        request::{JsonBody, parse, traceparent},
        submit::{IdempotencyKey, refusal, submit},
        terms::Time,
    },
    intake::{Answer, NewTask},
    problem::{Problem, ProblemSchema},
};
use accepted::Accepted;
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use serde::Deserialize;
use shared::{
    address::Mailbox, category::Category, fields::FieldError, kinds::email_send::one_or_many,
    task::OnWorkerLost, template,
};
use std::collections::BTreeMap;

pub fn configure(app: &mut ServiceConfig) {
    app.service(Endpoint::at("/emails").post(create).build())
        .service(Endpoint::at("/emails/batch").post(batch::create).build())
        .service(Endpoint::at("/emails/{id}").get(show::show).build());
}

/// A mail to be sent. Addresses are `name@domain` or `Name <name@domain>`; each list may be a single address.
///
/// Without `cc` and `bcc` every address in `to` gets a mail of its own, in which only it is named. With them the
/// mail is one for a group: everybody gets the same To and Cc headers and the same Message-ID, and nobody
/// sees `bcc`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = NewEmail)]
pub struct EmailRequest {
    /// The To header.
    #[serde(default, with = "one_or_many")]
    #[schema(value_type = Vec<String>, required = true, example = json!(["Ada <ada@example.com>"]))]
    to: Vec<Mailbox>,
    /// The Cc header.
    #[serde(default, with = "one_or_many")]
    #[schema(value_type = Vec<String>)]
    cc: Vec<Mailbox>,
    /// Recipients whom nobody sees.
    #[serde(default, with = "one_or_many")]
    #[schema(value_type = Vec<String>)]
    bcc: Vec<Mailbox>,
    /// The sender; the configured `mail.default_from` when left out.
    #[schema(value_type = Option<String>, example = "Shop <shop@example.com>")]
    from: Option<Mailbox>,
    /// The Reply-To header.
    #[serde(default, with = "one_or_many")]
    #[schema(value_type = Vec<String>)]
    reply_to: Vec<Mailbox>,
    /// The Subject header, in UTF-8 without line breaks. Needed, like at least one of `text` and `html`, unless a template
    /// makes them.
    #[schema(example = "Your receipt")]
    subject: Option<String>,
    /// Makes subject, text and HTML of a template (`/templates`) and these values, once the mail is sent.
    template: Option<template::Usage>,
    /// The plain text part.
    #[schema(example = "Thank you, Ada.")]
    text: Option<String>,
    /// The HTML part.
    html: Option<String>,
    /// Files that go with it, and images that its HTML shows.
    #[serde(default)]
    attachments: Vec<AttachmentRequest>,
    /// Further headers, e.g. `{"X-Campaign": "spring"}`.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// What the mail is for: `transactional` when left out; `security` for codes and links to log in, whose content is
    /// removed once the mail has ended; `marketing` for what can be unsubscribed from.
    #[serde(default)]
    category: Category,
    /// Your own notes about the mail: at most 20 names of 1 to 64 bytes with texts of at most 500.
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    /// Short texts to find the tasks by.
    tags: Option<Vec<String>>,
    /// Whose shared limits the mails count against, e.g. `tenant:acme`; see `PUT /limits`.
    #[schema(max_length = 200)]
    limit_key: Option<String>,
    /// Seconds after a mail's end until its result is removed; when left out, as `retention.result_hours` says, or with it.
    #[schema(minimum = 0)]
    result_ttl: Option<i64>,
    /// 0 (lowest) to 9 (highest); when left out, that of its category: 5, 8 for `security`, 2 for `marketing`.
    #[schema(minimum = 0, maximum = 9)]
    priority: Option<i64>,
    /// Not sent before then (RFC 3339 with any offset).
    #[schema(value_type = Option<DateTime<Utc>>)]
    run_at: Option<Time>,
    /// Not sent before so many seconds from now; instead of `run_at`.
    #[schema(minimum = 0)]
    delay: Option<i64>,
    /// Not sent after then: EXPIRED instead.
    #[schema(value_type = Option<DateTime<Utc>>)]
    useful_until: Option<Time>,
    /// What to do when a worker dies, or has to stop, while a mail may be on the wire: `retry` (when left out; it may
    /// arrive twice), `fail`, or `hold`: once the mail may have been sent, its task becomes UNKNOWN and waits for a person
    /// to resolve it; before that it is tried again. So no mail is repeated unasked.
    on_worker_lost: Option<OnWorkerLost>,
}

/// Accepts a mail.
#[utoipa::path(
    post,
    path = "/api/v1/emails",
    tag = "Mail",
    operation_id = "createEmail",
    summary = "Send a mail",
    description = "One task for each recipient. Without `cc` and `bcc` every address in `to` gets a mail of its own; with them the mail is one for a group. 202 means: committed to disk.",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters. The same key with the same body gets the first answer again, with the header `Idempotency-Replayed: true`.")),
    request_body = EmailRequest,
    responses(
        (status = 202, description = "Accepted", body = EmailAnswer<'_>, headers(
            ("Location" = String, description = "The first task"),
            ("Idempotency-Replayed" = String, description = "`true`: this is the answer to an earlier request"),
        )),
        (status = 422, description = "`invalid-fields` or `idempotency-key-reused`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "`overloaded`, `stopping` or `files-unavailable`: nothing was stored. `database-unavailable`: it may have been stored; repeat it under its Idempotency-Key", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn create(
    state: Data<AppState>,
    Submitter(caller): Submitter,
    request: HttpRequest,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    let idempotency = IdempotencyKey::of(&request, &caller, &body)?;
    let checked = parse::<EmailRequest>(&body.0)
        .and_then(|asked| Accepted::of(&state, asked).map_err(|errors| refusal(&state, errors)));
    match checked {
        Ok(accepted) => {
            let accepted = match accepted.with_files(&state).await? {
                Ok(accepted) => accepted.without_suppressed(&state).await,
                Err(errors) => {
                    let refusal = Problem::fields(errors);
                    return IdempotencyKey::earlier_or(idempotency, &state, refusal).await;
                }
            };
            hand_over(&state, &caller, &request, idempotency, accepted).await
        }
        Err(refusal) => IdempotencyKey::earlier_or(idempotency, &state, refusal).await,
    }
}

/// Sends a mail with that tag, and otherwise as if nothing had been said of it.
pub(super) async fn send(
    state: &AppState,
    caller: &Caller,
    request: &HttpRequest,
    idempotency: Option<IdempotencyKey>,
    mail: Mail,
    tag: &str,
) -> Result<HttpResponse, Problem> {
    let accepted = Accepted::plain(state, mail, tag).map_err(Problem::fields)?;
    let accepted = accepted.without_suppressed(state).await;
    hand_over(state, caller, request, idempotency, accepted).await
}

/// The tasks of such a mail, for who stores them with something else.
pub(super) fn plain_tasks(
    state: &AppState,
    caller: &Caller,
    request: &HttpRequest,
    mail: Mail,
    tag: &str,
) -> Result<Vec<NewTask>, Vec<FieldError>> {
    let accepted = Accepted::plain(state, mail, tag)?;
    accepted
        .tasks(caller, traceparent(request).as_deref())
        .map_err(|_| Vec::new())
}

async fn hand_over(
    state: &AppState,
    caller: &Caller,
    request: &HttpRequest,
    idempotency: Option<IdempotencyKey>,
    accepted: Accepted,
) -> Result<HttpResponse, Problem> {
    let shown = accepted
        .answer()
        .ok_or_else(|| Problem::fields(Vec::new()))?;
    let answer = Answer {
        status: 202,
        location: Some(shown.location()),
        body: serde_json::to_string(&shown).map_err(Problem::internal)?,
    };
    drop(shown);
    let tasks = accepted.tasks(caller, traceparent(request).as_deref())?;
    submit(state, caller, idempotency, tasks, answer).await
}
