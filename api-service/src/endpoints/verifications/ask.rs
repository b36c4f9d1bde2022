//! `POST /verifications` and `/resend`: a code is sent.

use super::{not_configured, not_found, pepper, verification_id};
use crate::{
    app::AppState,
    auth::{Caller, Scope, Verifier},
    endpoints::{
        BASE,
        request::{JsonBody, OptionalBody, parse, traceparent},
        submit::{IdempotencyKey, answered, reserve},
        tasks::resource::Timestamp,
    },
    intake::{Answer, Idempotency, NewTask, TimeLimits},
    problem::{Problem, ProblemSchema, ProblemType},
    queries::verifications::{self, Ask, Asked, Row, Throttled},
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path},
};
use chrono::{SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use shared::{
    address::EmailAddress,
    category::Category,
    fields::FieldError,
    kinds::{self, EmailCode, Kind, email_code},
    task::{OnWorkerLost, Priority, TaskId},
    template,
    verification::Form,
};
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
    /// Of the person who asks, as the caller sees it: limits how many codes one client asks for.
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
struct Order {
    again: Option<Uuid>,
    recipient: EmailAddress,
    purpose: String,
    locale: Option<String>,
    form: Form,
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

/// Whether the caller may know nothing of the recipient.
pub(in crate::endpoints) fn is_open(caller: &Caller) -> bool {
    !caller.scopes.allow(Scope::Submit)
}

/// Whom the request is for: as a trusted caller says, else who has sent it.
pub(in crate::endpoints) fn client_of(
    state: &AppState,
    caller: &Caller,
    request: &HttpRequest,
    said: Option<IpAddr>,
) -> Option<IpAddr> {
    if !is_open(caller) {
        return said;
    }
    let header = state.config.http.client_address_header.as_str();
    if header.is_empty() {
        return request.peer_addr().map(|peer| peer.ip());
    }
    // Who is before the proxy can write into all entries but the last.
    let value = request.headers().get_all(header).last()?;
    let last = value.to_str().ok()?.rsplit(',').next()?;
    last.trim().parse().ok()
}

/// Who is counted for the request, by names that begin with `what`, and how often each may ask in an hour.
pub(in crate::endpoints) fn sources(
    state: &AppState,
    caller: &Caller,
    client: Option<IpAddr>,
    what: &str,
) -> Vec<(String, u32)> {
    let policy = &state.config.verification;
    let most = if is_open(caller) {
        policy.max_per_open_key_hour
    } else {
        policy.max_per_key_hour
    };
    let key = (format!("{what}key {}", caller.key_id), most);
    let client = client.and_then(|address| {
        let pepper = state.suppressions.peppers().first()?;
        // A customer of IPv6 has a whole network of addresses.
        let network = match address.to_canonical() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("{:x?}", &address.segments()[..4]),
        };
        let mac = pepper.mac("client address", &[network.as_bytes()]);
        let mac = u128::from_be_bytes(mac[..16].try_into().ok()?);
        let name = format!("{what}client {mac:032x}");
        Some((name, policy.max_per_client_hour))
    });
    let all = [Some(key), client];
    all.into_iter()
        .flatten()
        .filter(|(_, most)| *most > 0)
        .collect()
}

/// What the mail is made of.
struct Mail {
    template: String,
    version: Option<i32>,
    from: Option<shared::address::Mailbox>,
    variables: Map<String, Value>,
}

impl Mail {
    /// With a template that can be used, which is tried here.
    fn of(state: &AppState, order: &Order) -> Result<Self, Problem> {
        let policy = &state.config.verification;
        let name = match order.form {
            Form::Link => &policy.link_template,
            _ => &policy.code_template,
        };
        let found = state.defaults.templates.find(name);
        let Some(published) = found else {
            return Err(if state.templates.are_known() {
                not_configured(&format!("a published template named {name}"))
            } else {
                Problem::new(ProblemType::DatabaseUnavailable)
                    .detail("The templates could not be read yet.")
            });
        };
        if state.defaults.from.is_none() {
            return Err(not_configured("mail.default_from"));
        }
        let mut variables = Map::new();
        variables.insert("minutes".into(), json!(policy.ttl_s.div_ceil(60)));
        let product = &state.config.mail.product;
        if !product.is_empty() {
            variables.insert("product".into(), json!(product));
        }
        if published.version.is_some() {
            variables.insert("purpose".into(), json!(order.purpose));
        }
        let mail = Self {
            template: name.clone(),
            version: published.version,
            from: state.defaults.from.clone(),
            variables,
        };
        let proof = match order.form {
            Form::Link => "https://example.com/",
            _ => "000000",
        };
        let content = published.template.content();
        let is_known = |name: &str| content.variables.contains_key(name);
        let values = email_code::values(&mail.variables, order.form, proof, None, is_known);
        match published.template.render(order.locale.as_deref(), &values) {
            Ok(_) => Ok(mail),
            Err(_) => Err(not_configured(&format!(
                "a template {name} that needs no other variables than code or url, minutes, product, purpose and not_me_url"
            ))),
        }
    }

    fn task(
        &self,
        row: &Row,
        state: &AppState,
        caller: Uuid,
        traceparent: Option<&str>,
    ) -> Option<NewTask> {
        let kind = kinds::find(EmailCode::NAME)?;
        let payload = EmailCode {
            verification: row.id,
            pepper: row.pepper.clone(),
            generation: row.generation,
            form: row.form(),
            purpose: row.purpose.clone(),
            recipient: EmailAddress::parse(&row.recipient).ok()?,
            from: self.from.clone(),
            category: Category::Security,
            template: self.template.clone(),
            version: self.version,
            locale: row.locale.clone(),
            variables: self.variables.clone(),
        };
        let categories = &state.config.mail.categories;
        Some(NewTask {
            id: TaskId(row.task_id),
            kind,
            queue: kind.queue,
            priority: Priority::new(categories.priority(Category::Security))?,
            payload: kinds::to_json(&payload).ok()?,
            content_ttl_s: None,
            files: Vec::new(),
            refusal: None,
            max_attempts: kind.backoff.max_attempts,
            time_limits: TimeLimits::default(),
            on_worker_lost: OnWorkerLost::Retry,
            tags: Vec::new(),
            limit_key: None,
            result_ttl_s: None,
            run_at: None,
            useful_until: Some(row.expires_at),
            created_at: Utc::now().trunc_subsecs(6),
            created_by: caller,
            traceparent: traceparent.map(str::to_owned),
        })
    }
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
