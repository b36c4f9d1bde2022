//! `POST /emails`: one mail to its recipients, as one task and one SMTP envelope for each, so that one bad
//! address sinks nobody else's copy.

mod copies;

use crate::{
    app::{AppState, Endpoint},
    auth::{Caller, Submitter},
    endpoints::{
        request::{JsonBody, parse, traceparent},
        submit::{IdempotencyKey, refusal, submit},
        tasks::resource::Links,
        terms::{Asked, Terms, Time},
    },
    intake::{Answer, NewTask, TimeLimits},
    problem::{Problem, ProblemSchema},
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use chrono::{DateTime, SubsecRound, Utc};
pub(super) use copies::Mail;
use copies::copies;
use serde::{Deserialize, Serialize};
use shared::{
    address::{EmailAddress, Mailbox},
    kinds::{self, EmailSend, Kind, email_send::one_or_many},
    task::{OnWorkerLost, Status, TaskId},
    template,
};
use std::collections::BTreeMap;

pub fn configure(app: &mut ServiceConfig) {
    app.service(Endpoint::at("/emails").post(create).build());
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
    /// Further headers, e.g. `{"X-Campaign": "spring"}`.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Short texts to find the tasks by.
    tags: Option<Vec<String>>,
    /// Whose shared limits the mails count against, e.g. `tenant:acme`; see `PUT /limits`.
    #[schema(max_length = 200)]
    limit_key: Option<String>,
    /// Seconds after a mail's end until its result is removed; when left out, as `retention.result_hours` says, or with it.
    #[schema(minimum = 0)]
    result_ttl: Option<i64>,
    /// 0 (lowest) to 9 (highest); 5 when left out.
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

/// The tasks of an accepted mail.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = AcceptedEmail)]
pub struct EmailAnswer<'a> {
    /// The first task's id.
    #[schema(value_type = uuid::Uuid)]
    id: TaskId,
    /// One for each recipient: those of `to`, then `cc`, then `bcc`, each address once.
    tasks: Vec<RecipientTask<'a>>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = RecipientTask)]
pub struct RecipientTask<'a> {
    #[schema(value_type = uuid::Uuid)]
    id: TaskId,
    #[schema(value_type = String, example = "ada@example.com")]
    recipient: &'a EmailAddress,
    status: Status,
    links: Links,
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
        (status = 503, description = "`overloaded` or `stopping`: nothing was stored. `database-unavailable`: it may have been stored; repeat it under its Idempotency-Key", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn create(
    state: Data<AppState>,
    Submitter(caller): Submitter,
    request: HttpRequest,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    let idempotency = IdempotencyKey::of(&request, &caller, &body)?;
    let accepted = match accept(&state, &body.0) {
        Ok(accepted) => accepted,
        Err(refusal) => return IdempotencyKey::earlier_or(idempotency, &state, refusal).await,
    };
    let answer = accepted.answer()?;
    let tasks = accepted.tasks(&caller, traceparent(&request).as_deref())?;
    submit(&state, &caller, idempotency, tasks, answer).await
}

/// A mail that can be sent.
#[derive(Debug)]
struct Accepted {
    copies: Vec<(TaskId, EmailSend)>,
    terms: Terms,
    on_worker_lost: OnWorkerLost,
    now: DateTime<Utc>,
}

fn accept(state: &AppState, body: &[u8]) -> Result<Accepted, Problem> {
    let asked = parse::<EmailRequest>(body)?;
    let now = Utc::now().trunc_subsecs(6);
    let mut errors = Vec::new();
    let terms = Asked {
        priority: asked.priority,
        run_at: asked.run_at,
        delay: asked.delay,
        useful_until: asked.useful_until,
        tags: asked.tags.unwrap_or_default(),
        limit_key: asked.limit_key,
        result_ttl: asked.result_ttl,
    }
    .check(&state.config.limits, now, &mut errors);
    let mail = Mail {
        to: asked.to,
        cc: asked.cc,
        bcc: asked.bcc,
        from: asked.from,
        reply_to: asked.reply_to,
        subject: asked.subject,
        template: asked.template,
        text: asked.text,
        html: asked.html,
        headers: asked.headers,
    };
    match copies(mail, &state.defaults) {
        Ok(copies) if errors.is_empty() => Ok(Accepted {
            copies,
            terms,
            on_worker_lost: asked.on_worker_lost.unwrap_or(OnWorkerLost::Retry),
            now,
        }),
        Ok(_) => Err(Problem::fields(errors)),
        Err(mut wrong) => {
            wrong.append(&mut errors);
            Err(refusal(state, wrong))
        }
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
    let now = Utc::now().trunc_subsecs(6);
    let asked = Asked {
        tags: vec![tag.to_owned()],
        ..Asked::default()
    };
    let accepted = Accepted {
        terms: asked.check(&state.config.limits, now, &mut Vec::new()),
        copies: copies(mail, &state.defaults).map_err(Problem::fields)?,
        on_worker_lost: OnWorkerLost::Retry,
        now,
    };
    let answer = accepted.answer()?;
    let tasks = accepted.tasks(caller, traceparent(request).as_deref())?;
    submit(state, caller, idempotency, tasks, answer).await
}

impl Accepted {
    fn answer(&self) -> Result<Answer, Problem> {
        let status = if self.terms.run_at.is_some_and(|run_at| run_at > self.now) {
            Status::Scheduled
        } else {
            Status::Pending
        };
        let tasks: Vec<_> = self
            .copies
            .iter()
            .filter_map(|(id, mail)| {
                Some(RecipientTask {
                    id: *id,
                    recipient: mail.recipient.as_ref()?,
                    status,
                    links: Links::of(*id),
                })
            })
            .collect();
        let first = tasks.first().ok_or_else(|| Problem::fields(Vec::new()))?;
        let location = first.links.this.clone();
        let body = serde_json::to_string(&EmailAnswer {
            id: first.id,
            tasks,
        });
        Ok(Answer {
            status: 202,
            location: Some(location),
            body: body.map_err(Problem::internal)?,
        })
    }

    fn tasks(self, caller: &Caller, traceparent: Option<&str>) -> Result<Vec<NewTask>, Problem> {
        let Self {
            copies,
            terms,
            on_worker_lost,
            now,
        } = self;
        let kind = kinds::find(EmailSend::NAME).ok_or_else(|| {
            Problem::internal(std::io::Error::other(
                "email.send is not in the list of kinds",
            ))
        })?;
        copies
            .into_iter()
            .map(|(id, mail)| {
                Ok(NewTask {
                    id,
                    kind,
                    queue: kind.queue,
                    priority: terms.priority,
                    payload: kinds::to_json(&mail).map_err(Problem::fields)?,
                    max_attempts: kind.backoff.max_attempts,
                    time_limits: TimeLimits::default(),
                    on_worker_lost,
                    tags: terms.tags.clone(),
                    limit_key: terms.limit_key.clone(),
                    result_ttl_s: terms.result_ttl_s,
                    run_at: terms.run_at,
                    useful_until: terms.useful_until,
                    created_at: now,
                    created_by: caller.key_id,
                    traceparent: traceparent.map(str::to_owned),
                })
            })
            .collect()
    }
}
