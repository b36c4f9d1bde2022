//! `POST /bounces`: what mail servers report of mails, as it came.

use crate::{
    app::{AppState, Endpoint},
    auth::Submitter,
    endpoints::request::{bad_parameter, parameters, unknown_parameter},
    problem::{Problem, ProblemSchema, ProblemType},
    queries::emails,
    report::{self, Action, Delivery, Feedback, Marks, Report},
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Payload, ServiceConfig},
};
use chrono::{DateTime, Days, Utc};
use diesel::{Connection as _, PgConnection, QueryResult};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use shared::{
    address::EmailAddress,
    category::Category,
    suppression::{
        HARD_BOUNCES, Reason,
        rows::{self, New},
    },
};
use uuid::Uuid;

/// Bytes of a report that are read; the others are let pass.
const READ: usize = 512 * 1024;

pub fn configure(app: &mut ServiceConfig) {
    app.service(Endpoint::at("/bounces").post(create).build());
}

/// What was made of a report.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = BounceReport)]
pub struct Understood {
    /// The mail that it is about; null: it bears no mark of ours, or none that can be told.
    email: Option<Uuid>,
    event: BounceEvent,
    /// The recipient gets no more mails, or none of the category.
    suppressed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BounceEvent {
    Bounced,
    Delayed,
    Delivered,
    Complained,
    /// Somebody has said that it is no spam.
    NotSpam,
    /// The message is no report, or its mail can't be told. Nothing was done.
    Ignored,
}

/// Takes a report.
#[utoipa::path(
    post,
    path = "/api/v1/bounces",
    tag = "Mail",
    operation_id = "reportBounce",
    summary = "Hand over a bounce or a complaint",
    description = "A delivery status notification (RFC 3464) or a complaint (RFC 5965), the whole message as it came to `mail.return_path` or to a feedback loop. It is noted with its mail. A mailbox that does not exist (5.1.1, 5.1.10, 5.2.1) gets no more mails, and whoever complains none of that category. Only the mark that Warren has put into the mail tells which one it is, so a forged report does nothing. Repeats change nothing. Needs the scope `submit`.",
    params(("recipient" = Option<String>, Query, description = "Where the message was sent to, if its headers may not say so: `bounce+…@…` (a + is written %2B)")),
    request_body(content = String, content_type = "message/rfc822"),
    responses(
        (status = 200, description = "What was made of it", body = Understood),
        (status = 400, description = "`invalid-parameters`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn create(
    state: Data<AppState>,
    Submitter(_caller): Submitter,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let recipient = checked(&request)?;
    let body = read(payload).await?;
    let config = &state.config;
    let return_path = config.return_path().map_err(Problem::internal)?;
    let marks = Marks {
        return_path: return_path.as_ref(),
        peppers: state.suppressions.peppers(),
    };
    let parsed = report::parse(&body, recipient.as_deref(), marks);
    let Some((parsed, report)) = parsed.and_then(|mut parsed| {
        let report = parsed.report.take()?;
        Some((parsed, report))
    }) else {
        return Ok(HttpResponse::Ok().json(ignored(None)));
    };
    let task = parsed.task.map(|task| task.0);
    let unsubscription = parsed.unsubscription;
    let task = task.or_else(|| Some(unsubscription.as_ref()?.task.0));
    let Some(task) = task else {
        return Ok(HttpResponse::Ok().json(ignored(None)));
    };
    let fallback = unsubscription.map(|one| (one.address, one.category));
    let days = (config.mail.hard_bounce_days, config.mail.complaint_days);
    let (understood, address) = state
        .pool
        .run(move |connection| {
            connection
                .transaction(|connection| note(connection, task, &report, fallback.clone(), days))
        })
        .await?;
    state.suppressions.note(address.iter().map(String::as_str));
    Ok(HttpResponse::Ok().json(understood))
}

/// The beginning of the message: what it tells stands before the mail that it is about, which may be large.
async fn read(mut payload: Payload) -> Result<Vec<u8>, Problem> {
    let mut body = Vec::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| Problem::new(ProblemType::IncompleteBody))?;
        let room = READ.saturating_sub(body.len()).min(chunk.len());
        body.extend_from_slice(&chunk[..room]);
    }
    Ok(body)
}

/// The parameter `recipient`, of a request that has the right type.
fn checked(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let media_type = request.headers().get(header::CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok());
    let name = media_type.and_then(|text| text.split(';').next());
    if !name.is_some_and(|name| name.trim().eq_ignore_ascii_case("message/rfc822")) {
        return Err(Problem::new(ProblemType::UnsupportedMediaType)
            .detail("The Content-Type must be message/rfc822."));
    }
    let mut recipient = None;
    for (name, value) in parameters(request) {
        match name.as_str() {
            "recipient" if value.len() <= 320 => recipient = Some(value),
            "recipient" => return Err(bad_parameter("recipient", "must be an address")),
            other => {
                let flaw = unknown_parameter(other, &["recipient"]);
                return Err(Problem::flaws(ProblemType::InvalidParameters, vec![flaw]));
            }
        }
    }
    Ok(recipient)
}

fn ignored(email: Option<Uuid>) -> Understood {
    Understood {
        email,
        event: BounceEvent::Ignored,
        suppressed: false,
    }
}

/// What the payloads of all mails tell.
#[derive(Deserialize)]
struct SentTo {
    recipient: Option<EmailAddress>,
    #[serde(default)]
    category: Category,
}

/// Notes the report, and returns the address that is suppressed for it.
fn note(
    connection: &mut PgConnection,
    task: Uuid,
    report: &Report,
    fallback: Option<(EmailAddress, Category)>,
    (hard_bounce_days, complaint_days): (u32, u32),
) -> QueryResult<(Understood, Option<String>)> {
    let payload = emails::payload(connection, task)?;
    let payload = payload.and_then(|json| serde_json::from_str::<SentTo>(&json).ok());
    let about = payload.and_then(|mail| Some((mail.recipient?, mail.category)));
    let Some((address, category)) = about.or(fallback) else {
        return Ok((ignored(Some(task)), None));
    };
    let (event, name, code, detail) = told(report);
    emails::note(connection, task, name, code, detail)?;
    let new = |category, reason, days, detail: &str| New {
        address: address.canonical(),
        category,
        purpose: None,
        reason,
        detail: Some(detail.to_owned()),
        task: Some(task),
        expires_at: end(days),
        created_by: "warren".into(),
    };
    let suppression = match report {
        Report::Delivery(Delivery {
            action: Action::Failed,
            status,
            diagnostic,
        }) if HARD_BOUNCES.contains(&status.as_str()) => {
            Some(new(None, Reason::HardBounce, hard_bounce_days, diagnostic))
        }
        Report::Feedback(feedback) if feedback.is_complaint() => Some(new(
            Some(category),
            Reason::Complaint,
            complaint_days,
            &feedback.kind,
        )),
        _ => None,
    };
    if let Some(new) = &suppression {
        rows::add(connection, std::slice::from_ref(new))?;
    }
    let understood = Understood {
        email: Some(task),
        event,
        suppressed: suppression.is_some(),
    };
    Ok((understood, suppression.map(|new| new.address)))
}

/// In the words of the answer and of the table, with code and detail.
fn told(report: &Report) -> (BounceEvent, &'static str, &str, &str) {
    match report {
        Report::Delivery(delivery) => {
            let (event, name) = match delivery.action {
                Action::Failed => (BounceEvent::Bounced, "bounced"),
                Action::Delayed => (BounceEvent::Delayed, "delayed"),
                Action::Delivered => (BounceEvent::Delivered, "delivered"),
            };
            (event, name, &delivery.status, &delivery.diagnostic)
        }
        Report::Feedback(Feedback { kind }) if kind == "not-spam" => {
            (BounceEvent::NotSpam, "not_spam", kind, "")
        }
        Report::Feedback(Feedback { kind }) => (BounceEvent::Complained, "complained", kind, ""),
    }
}

fn end(days: u32) -> Option<DateTime<Utc>> {
    (days > 0)
        .then(|| Utc::now().checked_add_days(Days::new(days.into())))
        .flatten()
}
