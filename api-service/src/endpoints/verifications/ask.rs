//! `POST /verifications` and `/resend`: a code is sent.

use super::{
    mail::Mail,
    not_configured, not_found, pepper,
    sources::{client_of, is_open, sources},
    verification_id,
};
use crate::{
    app::AppState,
    auth::{Caller, Verifier},
    endpoints::{
        BASE,
        request::{JsonBody, OptionalBody, parse, traceparent},
        submit::{IdempotencyKey, answered, reserve},
        tasks::resource::Timestamp,
    },
    intake::{Answer, Idempotency},
    problem::{Problem, ProblemSchema, ProblemType},
    queries::verifications::{self, Ask, Asked, Row, Throttled},
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path},
};
use serde::{Deserialize, Serialize};
use shared::{address::EmailAddress, fields::FieldError, template, verification::Form};
use std::{net::IpAddr, time::Duration};
use uuid::Uuid;

const LONGEST_PURPOSE: usize = 64;

/// Somebody is to prove that they read an address.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = NewVerification)]
pub struct VerificationRequest {
    #[schema(value_type = String, example = "ada@example.com")]
    recipient: EmailAddress,
    /// What for: 1 to 64 lower-case letters, digits, `.`, `_` and `-`. A code for one purpose is none for another.
    #[schema(example = "login")]
    purpose: String,
    /// The recipient's language (BCP 47).
    #[schema(example = "zh-CN")]
    locale: Option<String>,
    /// `email` is the only one, and what is meant when nothing is said.
    #[serde(default)]
    channel: Channel,
    /// `verification.form` when left out; `link` for a link to be opened.
    form: Option<Form>,
    /// Of the person who asks, as the caller sees it: limits how many codes one client asks for. Ignored where nobody trusts
    /// the caller (the scope `verify` alone): there it is the address that the request comes from.
    #[schema(value_type = Option<String>, example = "203.0.113.7")]
    client_address: Option<IpAddr>,
}

/// How it gets there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = VerificationChannel)]
pub enum Channel {
    #[default]
    Email,
}

#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct ResendRequest {
    locale: Option<String>,
    #[schema(value_type = Option<String>)]
    client_address: Option<IpAddr>,
}

/// A code is on its way.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = AcceptedVerification)]
pub struct VerificationAnswer {
    id: Uuid,
    /// From then on it is of no use.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    expires_at: Timestamp,
    /// Seconds after which it may be sent again.
    resend_after: u32,
    links: VerificationLinks,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct VerificationLinks {
    #[serde(rename = "self")]
    #[schema(rename = "self")]
    this: String,
}

/// Sends a code.
#[utoipa::path(
    post,
    path = "/api/v1/verifications",
    tag = "Verification",
    operation_id = "createVerification",
    summary = "Send a code to an address",
    description = "While a code for the same recipient and purpose is of use, the same one is sent again, under the same id. A key with the scope `verify` alone gets a new id each time, and the same answer whoever the recipient is, and whether anything may be sent to them. Needs the scope `verify` or `submit`.",
    params(("Idempotency-Key" = Option<String>, Header, description = "As for `POST /emails`")),
    request_body = VerificationRequest,
    responses(
        (status = 201, description = "Committed to disk; the mail is on its way", body = VerificationAnswer),
        (status = 422, description = "`invalid-fields`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 429, description = "`verification-throttled`: nothing was sent", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 501, description = "`not-configured`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn create(
    state: Data<AppState>,
    Verifier(caller): Verifier,
    request: HttpRequest,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    let idempotency = IdempotencyKey::of(&request, &caller, &body)?;
    let asked: VerificationRequest = parse(&body.0)?;
    let mut errors = Vec::new();
    let is_sign = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    if !(1..=LONGEST_PURPOSE).contains(&asked.purpose.len()) || !asked.purpose.bytes().all(is_sign)
    {
        let detail = "must be 1 to 64 lower-case letters, digits, '.', '_' and '-'";
        errors.push(FieldError::new("/purpose", detail));
    }
    check_locale(asked.locale.as_deref(), &mut errors);
    if !errors.is_empty() {
        return Err(Problem::fields(errors));
    }
    let Channel::Email = asked.channel;
    let form = asked.form.unwrap_or(state.config.verification.form);
    let order = Order {
        again: None,
        recipient: asked.recipient,
        purpose: asked.purpose,
        locale: asked.locale,
        form,
        client: client_of(&state, &caller, &request, asked.client_address),
        traceparent: traceparent(&request),
    };
    hand_over(&state, &caller, order, idempotency, 201).await
}

/// Sends it again.
#[utoipa::path(
    post,
    path = "/api/v1/verifications/{id}/resend",
    tag = "Verification",
    operation_id = "resendVerification",
    summary = "Send a code again",
    description = "The same one while it is of use; after its time, or when its tries are used up, another one, and the old one is dead. Needs the scope `verify` or `submit`.",
    params(("id" = Uuid, Path, description = "The verification's id")),
    request_body = Option<ResendRequest>,
    responses(
        (status = 200, description = "The mail is on its way", body = VerificationAnswer),
        (status = 404, description = "`verification-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 410, description = "`verification-over`: it was verified, or its recipient did not ask for it", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 429, description = "`verification-throttled`: nothing was sent", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn resend(
    state: Data<AppState>,
    Verifier(caller): Verifier,
    id: Path<String>,
    request: HttpRequest,
    body: OptionalBody,
) -> Result<HttpResponse, Problem> {
    let id = verification_id(&id)?;
    let asked: ResendRequest = match &body.0 {
        Some(body) => parse(body)?,
        None => ResendRequest::default(),
    };
    let mut errors = Vec::new();
    check_locale(asked.locale.as_deref(), &mut errors);
    if !errors.is_empty() {
        return Err(Problem::fields(errors));
    }
    let row = state
        .pool
        .run(move |connection| verifications::find(connection, id))
        .await?
        .ok_or_else(not_found)?;
    let form = row.form();
    let order = Order {
        again: Some(id),
        recipient: EmailAddress::parse(&row.recipient).map_err(Problem::internal)?,
        purpose: row.purpose,
        locale: asked.locale.or(row.locale),
        form,
        client: client_of(&state, &caller, &request, asked.client_address),
        traceparent: traceparent(&request),
    };
    hand_over(&state, &caller, order, None, 200).await
}

pub(in crate::endpoints) fn check_locale(locale: Option<&str>, errors: &mut Vec<FieldError>) {
    if locale.is_some_and(|locale| !template::is_locale(locale)) {
        let detail = "must be a language tag (BCP 47), e.g. en or zh-Hant";
        errors.push(FieldError::new("/locale", detail));
    }
}

/// What is to be sent.
pub(super) struct Order {
    again: Option<Uuid>,
    recipient: EmailAddress,
    pub(super) purpose: String,
    pub(super) locale: Option<String>,
    pub(super) form: Form,
    client: Option<IpAddr>,
    traceparent: Option<String>,
}

async fn hand_over(
    state: &Data<AppState>,
    caller: &Caller,
    order: Order,
    idempotency: Option<IdempotencyKey>,
    status: u16,
) -> Result<HttpResponse, Problem> {
    let pepper = pepper(state)?.name().to_owned();
    if order.form == Form::Link && state.config.http.public_url.is_empty() {
        return Err(not_configured("http.public_url"));
    }
    let mail = Mail::of(state, &order)?;
    let sources = sources(state, caller, order.client, "");
    let stored = idempotency.clone().map(|key| {
        key.remembering(Answer {
            status,
            location: None,
            body: String::new(),
        })
    });
    let reservation = match reserve(state, caller, 1).await {
        Ok(reservation) => reservation,
        Err(refusal) => return IdempotencyKey::earlier_or(idempotency, state, refusal).await,
    };
    let asked = run(state, caller, order, (pepper, mail), sources, stored).await;
    if let (Some(reservation), Ok(Asked::Throttled(_) | Asked::Over(_) | Asked::Replayed(_))) =
        (reservation, &asked)
    {
        reservation.give_back();
    }
    match asked? {
        Asked::Done(row, tasks) => {
            state.intake.note(&tasks);
            let answer = VerificationAnswer::of(&row, state);
            let mut response = if status == 201 {
                HttpResponse::Created()
            } else {
                HttpResponse::Ok()
            };
            if status == 201 {
                response.insert_header((header::LOCATION, answer.links.this.clone()));
            }
            Ok(response.json(answer))
        }
        Asked::Throttled(Throttled { seconds, what }) => {
            let refusal = Problem::new(ProblemType::VerificationThrottled)
                .detail(format!("There were too many {what}."))
                .retry_after(seconds);
            IdempotencyKey::earlier_or(idempotency, state, refusal).await
        }
        Asked::Over(what) => Err(Problem::new(ProblemType::VerificationOver)
            .detail(format!("It can't be sent again: {what}."))),
        Asked::Replayed(outcome) => answered(outcome, None),
    }
}

async fn run(
    state: &Data<AppState>,
    caller: &Caller,
    order: Order,
    (pepper, mail): (String, Mail),
    sources: Vec<(String, u32)>,
    idempotency: Option<Idempotency>,
) -> Result<Asked, Problem> {
    let forms = state.suppressions.forms(&order.recipient);
    let (key, is_open) = (caller.key_id, is_open(caller));
    let shared = state.clone();
    let asked = state.pool.run(move |connection| {
        let config = &shared.config;
        let ask = Ask {
            again: order.again,
            recipient: order.recipient.as_str(),
            canonical: &order.recipient.canonical(),
            forms: &forms,
            purpose: &order.purpose,
            locale: order.locale.as_deref(),
            form: order.form,
            pepper: &pepper,
            caller: key,
            is_open,
            sources: &sources,
            policy: &config.verification,
            relay_after: Duration::from_millis(config.outbox.relay_after_ms.into()),
            result_ttl_s: config.retention.result_ttl_s(),
            idempotency,
        };
        let answer = |row: &Row| {
            let answer = VerificationAnswer::of(row, &shared);
            Answer {
                status: 201,
                body: serde_json::to_string(&answer).unwrap_or_default(),
                location: Some(answer.links.this),
            }
        };
        let task = |row: &Row| mail.task(row, &shared, key, order.traceparent.as_deref());
        verifications::ask(connection, &ask, &answer, &task)
    });
    Ok(asked.await?)
}

impl VerificationAnswer {
    fn of(row: &Row, state: &AppState) -> Self {
        Self {
            id: row.id,
            expires_at: Timestamp(row.expires_at),
            resend_after: state.config.verification.cooldown_s,
            links: VerificationLinks {
                this: format!("{BASE}/verifications/{}", row.id),
            },
        }
    }
}
