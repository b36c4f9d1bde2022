//! `POST /users`: somebody signs up.

use super::UserResource;
use crate::{
    app::AppState,
    auth::{Caller, Verifier},
    endpoints::{
        BASE,
        emails::{self, Mail},
        request::{JsonBody, parse, traceparent},
        submit::{IdempotencyKey, answered, reserve},
        verifications::{
            ask::check_locale,
            mail::template,
            not_configured,
            sources::{client_of, is_open, sources},
        },
    },
    intake::{Answer, Idempotency, NewTask},
    problem::{Problem, ProblemSchema, ProblemType},
    queries::users::{self, Created, New, Row},
};
use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use shared::{
    address::{EmailAddress, Mailbox},
    fields::FieldError,
    template::Usage,
    verification::Receipt,
};
use std::{net::IpAddr, time::Duration};
use uuid::Uuid;

const LONGEST_NAME: usize = 100;

/// Somebody who signs up.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = NewUser)]
pub struct UserRequest {
    #[schema(value_type = String, example = "ada@example.com")]
    email: EmailAddress,
    /// 1 to 100 bytes, without control characters and without links.
    #[schema(example = "Ada")]
    username: String,
    /// Their language (BCP 47).
    #[schema(example = "zh-CN")]
    locale: Option<String>,
    /// Of a verification of this address, so that it counts as proven from the beginning.
    receipt: Option<String>,
    /// Of the person, as the caller sees it: limits how many a client signs up. Ignored where nobody trusts the caller (the
    /// scope `verify` alone): there it is the address that the request comes from.
    #[schema(value_type = Option<String>, example = "203.0.113.7")]
    client_address: Option<IpAddr>,
}

/// What a caller is told that may not know whether there was such a user.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SignUp {
    /// Always `true`: who is new is welcomed by a mail.
    accepted: bool,
}

/// Stores a user.
#[utoipa::path(
    post,
    path = "/api/v1/users",
    tag = "Users",
    operation_id = "createUser",
    summary = "Sign somebody up",
    description = "The user, their welcome mail (`users.welcome_template`) and the event `user.created` are stored in one commit. An address has one user, whatever the case of its letters. A key with the scope `verify` alone is answered the same, 202, whether there was one or not, and nothing is sent where there was. Needs the scope `verify` or `submit`.",
    params(("Idempotency-Key" = Option<String>, Header, description = "As for `POST /emails`")),
    request_body = UserRequest,
    responses(
        (status = 201, description = "Committed to disk; the mail is on its way", body = UserResource),
        (status = 202, description = "To a key with the scope `verify` alone", body = SignUp),
        (status = 409, description = "`user-exists`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-fields`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 429, description = "`verification-throttled`: nothing was stored", body = ProblemSchema, content_type = "application/problem+json"),
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
    let asked: UserRequest = parse(&body.0)?;
    let verified_at = match check(&state, &asked) {
        Ok(verified_at) => verified_at,
        Err(errors) => {
            return IdempotencyKey::earlier_or(idempotency, &state, Problem::fields(errors)).await;
        }
    };
    let welcome = welcome(&state, &caller, &request, &asked)?;
    let is_open = is_open(&caller);
    let id = Uuid::now_v7();
    let location = format!("{BASE}/users/{id}");
    let stored = idempotency.clone().map(|key| {
        key.remembering(Answer {
            status: if is_open { 202 } else { 201 },
            location: (!is_open).then(|| location.clone()),
            body: String::new(),
        })
    });
    let order = Order {
        id,
        client: client_of(&state, &caller, &request, asked.client_address),
        asked,
        verified_at,
        welcome,
        traceparent: traceparent(&request),
        idempotency: stored,
    };
    let tasks = order.welcome.len() as u64;
    let reservation = match reserve(&state, &caller, tasks).await {
        Ok(reservation) => reservation,
        Err(refusal) => return IdempotencyKey::earlier_or(idempotency, &state, refusal).await,
    };
    let created = run(&state, &caller, order).await;
    let is_stored = match &created {
        Ok(Created::Done(..)) | Err(_) => true,
        Ok(Created::Exists(..)) => is_open,
        Ok(Created::Throttled(_) | Created::Replayed(_)) => false,
    };
    if let Some(reservation) = reservation.filter(|_| !is_stored) {
        reservation.give_back();
    }
    match created? {
        Created::Done(_, tasks) | Created::Exists(_, tasks) if is_open => {
            state.intake.note(&tasks);
            Ok(HttpResponse::Accepted().json(SignUp { accepted: true }))
        }
        Created::Done(row, tasks) => {
            state.intake.note(&tasks);
            Ok(HttpResponse::Created()
                .insert_header((header::LOCATION, location))
                .json(UserResource::from(&*row)))
        }
        Created::Exists(id, _) => {
            let refusal = Problem::new(ProblemType::UserExists)
                .detail(format!("It is {BASE}/users/{id}. Nothing was sent."));
            IdempotencyKey::earlier_or(idempotency, &state, refusal).await
        }
        Created::Throttled(throttled) => {
            let refusal = Problem::new(ProblemType::VerificationThrottled)
                .detail("Too many people were signed up for this client or key in an hour.")
                .retry_after(throttled.seconds);
            IdempotencyKey::earlier_or(idempotency, &state, refusal).await
        }
        Created::Replayed(outcome) => answered(outcome, None),
    }
}

/// When the address was proven, if it was.
fn check(state: &AppState, asked: &UserRequest) -> Result<Option<DateTime<Utc>>, Vec<FieldError>> {
    let mut errors = Vec::new();
    let name = asked.username.trim();
    let is_link = |name: &str| name.contains("://") || name.to_lowercase().contains("www.");
    if name.is_empty()
        || name.len() > LONGEST_NAME
        || name.chars().any(char::is_control)
        || is_link(name)
    {
        let detail = format!(
            "must be 1 to {LONGEST_NAME} bytes, without control characters and without links"
        );
        errors.push(FieldError::new("/username", detail));
    }
    check_locale(asked.locale.as_deref(), &mut errors);
    let receipt = asked.receipt.as_ref().map(|receipt| {
        Receipt::of(receipt, state.suppressions.peppers(), Utc::now())
            .filter(|receipt| receipt.recipient.to_lowercase() == asked.email.canonical())
    });
    if matches!(receipt, Some(None)) {
        let detail = "is none of a verification of this address, or is not valid any more";
        errors.push(FieldError::new("/receipt", detail));
    }
    if errors.is_empty() {
        Ok(receipt.flatten().map(|receipt| receipt.verified_at))
    } else {
        Err(errors)
    }
}

/// The tasks of the welcome mail.
fn welcome(
    state: &AppState,
    caller: &Caller,
    request: &HttpRequest,
    asked: &UserRequest,
) -> Result<Vec<NewTask>, Problem> {
    let name = &state.config.users.welcome_template;
    if name.is_empty() {
        return Ok(Vec::new());
    }
    let Some(from) = &state.defaults.from else {
        return Err(not_configured("mail.default_from"));
    };
    let published = template(state, name)?;
    let username = asked.username.trim();
    let product = match (&state.config.mail.product, &from.name) {
        (product, _) if !product.is_empty() => product.as_str(),
        (_, Some(name)) => name.as_str(),
        (_, None) => from.address.domain(),
    };
    let mut variables: Map<String, Value> = [("name", username), ("product", product)]
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .into_iter()
        .collect();
    if !state.config.users.url.is_empty() {
        variables.insert("url".into(), json!(state.config.users.url));
    }
    let content = published.template.content();
    variables.retain(|name, _| content.variables.contains_key(name));
    let mail = Mail {
        to: vec![Mailbox {
            name: Some(username.to_owned()),
            address: asked.email.clone(),
        }],
        template: Some(Usage {
            name: name.clone(),
            version: None,
            locale: asked.locale.clone(),
            variables,
        }),
        ..Mail::default()
    };
    emails::plain_tasks(state, caller, request, mail, "welcome").map_err(|errors| {
        let first = errors.first().map(|error| error.detail.clone());
        not_configured(&format!(
            "a template {name} that needs no other variables than name, product and url ({})",
            first.unwrap_or_default()
        ))
    })
}

struct Order {
    id: Uuid,
    client: Option<IpAddr>,
    asked: UserRequest,
    verified_at: Option<DateTime<Utc>>,
    welcome: Vec<NewTask>,
    traceparent: Option<String>,
    idempotency: Option<Idempotency>,
}

async fn run(state: &Data<AppState>, caller: &Caller, order: Order) -> Result<Created, Problem> {
    let is_open = is_open(caller);
    let sources = sources(state, caller, order.client, "sign-up ");
    let forms = state.suppressions.forms(&order.asked.email);
    let created_by = caller.key_id;
    let shared = state.clone();
    let created = state.pool.run(move |connection| {
        let config = &shared.config;
        let new = New {
            id: order.id,
            email: order.asked.email.as_str(),
            canonical: &order.asked.email.canonical(),
            forms: &forms,
            username: order.asked.username.trim(),
            locale: order.asked.locale.as_deref(),
            verified_at: order.verified_at,
            created_by,
            is_open,
            sources: &sources,
            welcome: order.welcome,
            traceparent: order.traceparent.as_deref(),
            relay_after: Duration::from_millis(config.outbox.relay_after_ms.into()),
            result_ttl_s: config.retention.result_ttl_s(),
            idempotency: order.idempotency,
        };
        let answer = |row: &Row| {
            let answer = if is_open {
                serde_json::to_string(&SignUp { accepted: true })
            } else {
                serde_json::to_string(&UserResource::from(row))
            };
            answer.unwrap_or_default()
        };
        users::create(connection, new, &answer)
    });
    Ok(created.await?)
}
