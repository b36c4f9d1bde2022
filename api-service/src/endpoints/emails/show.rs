//! `GET /emails/{id}`: what became of a mail, recipient by recipient, and what it said.

use super::{copies::of_mail, outcome::Outcome};
use crate::{
    app::AppState,
    auth::Reader,
    endpoints::{
        request::{bad_parameter, parameters, unknown_parameter},
        tasks::{
            operate::task_id,
            resource::{Links, TaskError, Timestamp},
        },
    },
    problem::{Problem, ProblemSchema, ProblemType},
    queries::{
        emails::{self, Copy, Event, Mail},
        templates,
    },
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use serde::Serialize;
use shared::{
    address::{EmailAddress, Mailbox},
    attachment::Attachment,
    category::Category,
    kinds::{EmailSend, EmailSent},
    task::TaskId,
    template::{Compiled, Content, Usage, builtin},
};
use std::{borrow::Cow, collections::BTreeMap};
use uuid::Uuid;

/// A mail.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Email)]
pub struct EmailResource<'a> {
    /// The first recipient's task.
    id: Uuid,
    category: Category,
    #[schema(value_type = Option<String>)]
    from: Option<&'a Mailbox>,
    #[schema(value_type = Vec<String>)]
    to: Vec<&'a Mailbox>,
    #[schema(value_type = Vec<String>)]
    cc: &'a [Mailbox],
    #[schema(value_type = Vec<String>)]
    tags: &'a [String],
    metadata: &'a BTreeMap<String, String>,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    created_at: Timestamp,
    /// Not sent before then.
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    run_at: Option<Timestamp>,
    /// Those of `to`, then `cc`, then `bcc`.
    recipients: Vec<Delivery<'a>>,
    /// Files that went with it.
    attachments: &'a [Attachment],
    /// `true`: what it says was removed (`mail.categories`).
    content_removed: bool,
    /// Only with `?include=content`: what the first recipient's copy says, while it is kept. Never of a `security` mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Said>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = EmailRecipient)]
pub struct Delivery<'a> {
    /// Its task.
    id: Uuid,
    #[schema(value_type = Option<String>)]
    recipient: Option<&'a EmailAddress>,
    outcome: Outcome,
    /// The relay that has taken it, and its words.
    relay: Option<String>,
    reply: Option<String>,
    message_id: Option<String>,
    /// Why it was not sent, or not yet.
    error: Option<TaskError<'a>>,
    /// Attempts started.
    attempts: i32,
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    next_attempt_at: Option<Timestamp>,
    /// In the order of time.
    timeline: Vec<Moment<'a>>,
    links: Links,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = EmailMoment)]
pub struct Moment<'a> {
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    at: Timestamp,
    /// `accepted`, `deferred`, `given back`, `sent`, `failed`, `suppressed`, …; `bounced`, `delayed`, `delivered`,
    /// `complained`, `unsubscribed`: heard later.
    #[schema(value_type = String)]
    event: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    detail: Option<Cow<'a, str>>,
}

/// A mail's texts.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = EmailContent)]
pub struct Said {
    subject: String,
    text: Option<String>,
    html: Option<String>,
    headers: BTreeMap<String, String>,
    /// What it was made of.
    template: Option<Usage>,
}

/// Shows what became of a mail.
#[utoipa::path(
    get,
    path = "/api/v1/emails/{id}",
    tag = "Mail",
    operation_id = "getEmail",
    summary = "Look at a mail",
    description = "With all its recipients, by the id of any one's task. Needs the scope `read`.",
    params(
        ("id" = Uuid, Path, description = "The id that `POST /emails` answered, or a recipient's task"),
        ("include" = Option<String>, Query, description = "`content`: answer what the mail says too"),
    ),
    responses(
        (status = 200, description = "The mail", body = EmailResource<'_>),
        (status = 404, description = "`task-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    state: Data<AppState>,
    _reader: Reader,
    id: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let with_content = asks_for_content(&request)?;
    let id = task_id(&id)?;
    let (first, last) = of_mail(id);
    let mail = state
        .pool
        .run(move |connection| emails::find(connection, first.0, last.0))
        .await?;
    if !mail.copies.iter().any(|copy| copy.id == id.0) {
        return Err(Problem::new(ProblemType::TaskNotFound));
    }
    let payloads = mail.copies.iter().map(|copy| {
        let payload: EmailSend =
            serde_json::from_str(&copy.payload.0).map_err(Problem::internal)?;
        Ok(payload)
    });
    let payloads = payloads.collect::<Result<Vec<_>, Problem>>()?;
    let content = match payloads.first() {
        Some(payload) if with_content => said(&state, payload).await?,
        _ => None,
    };
    let shown = resource(&mail, &payloads, content)
        .ok_or_else(|| Problem::new(ProblemType::TaskNotFound))?;
    Ok(HttpResponse::Ok().json(shown))
}

fn asks_for_content(request: &HttpRequest) -> Result<bool, Problem> {
    let mut asked = false;
    for (name, value) in parameters(request) {
        match (name.as_str(), value.as_str()) {
            ("include", "content") => asked = true,
            ("include", _) => return Err(bad_parameter("include", "must be content")),
            (other, _) => {
                let flaw = unknown_parameter(other, &["include"]);
                return Err(Problem::flaws(ProblemType::InvalidParameters, vec![flaw]));
            }
        }
    }
    Ok(asked)
}

fn resource<'a>(
    mail: &'a Mail,
    payloads: &'a [EmailSend],
    content: Option<Said>,
) -> Option<EmailResource<'a>> {
    let (copy, payload) = (mail.copies.first()?, payloads.first()?);
    // A mail of its own for each names but one.
    let mut to: Vec<&Mailbox> = Vec::new();
    for one in payloads.iter().flat_map(|payload| &payload.to) {
        if !to.contains(&one) {
            to.push(one);
        }
    }
    Some(EmailResource {
        id: copy.id,
        category: payload.category,
        from: payload.from.as_ref(),
        to,
        cc: &payload.cc,
        tags: &copy.tags,
        metadata: &payload.metadata,
        attachments: &payload.attachments,
        created_at: Timestamp(copy.created_at),
        run_at: copy.run_at.map(Timestamp),
        recipients: mail
            .copies
            .iter()
            .zip(payloads)
            .map(|(copy, payload)| recipient(mail, copy, payload))
            .collect(),
        content_removed: payload.content_removed,
        content,
    })
}

fn recipient<'a>(mail: &'a Mail, copy: &'a Copy, payload: &'a EmailSend) -> Delivery<'a> {
    let events: Vec<&Event> = mail
        .events
        .iter()
        .filter(|event| event.task_id == copy.id)
        .collect();
    let outcome = Outcome::of(copy, &events);
    let sent = copy
        .result
        .as_ref()
        .and_then(|json| serde_json::from_str::<EmailSent>(&json.0).ok());
    let (relay, reply, message_id) = sent.map_or((None, None, None), |sent| {
        (Some(sent.relay), Some(sent.reply), Some(sent.message_id))
    });
    Delivery {
        id: copy.id,
        recipient: payload.recipient.as_ref(),
        outcome,
        timeline: timeline(mail, copy, &events, reply.as_deref()),
        relay,
        reply,
        message_id,
        error: copy.error_code.as_deref().map(|code| TaskError {
            code: code.into(),
            message: copy.error_message.as_deref().unwrap_or_default().into(),
        }),
        attempts: copy.attempt,
        next_attempt_at: copy.next_attempt_at.map(Timestamp),
        links: Links::of(TaskId(copy.id)),
    }
}

fn timeline<'a>(
    mail: &'a Mail,
    copy: &'a Copy,
    events: &[&'a Event],
    reply: Option<&str>,
) -> Vec<Moment<'a>> {
    let mut moments = vec![Moment {
        at: Timestamp(copy.created_at),
        event: "accepted".into(),
        detail: None,
    }];
    for attempt in mail.attempts.iter().filter(|one| one.task_id == copy.id) {
        let words = [
            attempt.error_code.as_deref(),
            attempt.error_message.as_deref(),
        ];
        let words: Vec<_> = words.into_iter().flatten().collect();
        let is_last = copy.finished_at.is_some_and(|end| end <= attempt.ended_at);
        if is_last {
            continue;
        }
        let event = match attempt.outcome.as_str() {
            "failed" => "deferred",
            "released" => "given back",
            other => other,
        };
        moments.push(Moment {
            at: Timestamp(attempt.ended_at),
            event: event.into(),
            detail: (!words.is_empty()).then(|| words.join(": ").into()),
        });
    }
    if let Some(end) = copy.finished_at {
        // What was heard later is told below.
        let outcome = serde_json::to_value(Outcome::of(copy, &[]));
        let event = outcome
            .ok()
            .and_then(|name| Some(name.as_str()?.to_owned()));
        moments.push(Moment {
            at: Timestamp(end),
            event: event.unwrap_or_default().into(),
            detail: reply
                .map(|reply| reply.to_owned().into())
                .or_else(|| copy.error_message.as_deref().map(Cow::from)),
        });
    }
    moments.extend(events.iter().map(|event| {
        let words = [
            event.code.as_str(),
            event.detail.as_deref().unwrap_or_default(),
        ];
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        Moment {
            at: Timestamp(event.at),
            event: event.event.as_str().into(),
            detail: (!words.is_empty()).then(|| words.join(" ").into()),
        }
    }));
    moments.sort_by_key(|moment| moment.at.0);
    moments
}

/// What the mail says; none: that is gone, or nobody's business.
async fn said(state: &AppState, payload: &EmailSend) -> Result<Option<Said>, Problem> {
    if payload.content_removed || payload.category == Category::Security {
        return Ok(None);
    }
    let headers = payload.headers.clone();
    let Some(usage) = &payload.template else {
        return Ok(Some(Said {
            subject: payload.subject.clone().unwrap_or_default(),
            text: payload.text.clone(),
            html: payload.html.clone(),
            headers,
            template: None,
        }));
    };
    let Some(made) = made(state, usage).await? else {
        return Ok(None);
    };
    Ok(Some(Said {
        subject: made.subject,
        text: made.text,
        html: made.html,
        headers,
        template: Some(usage.clone()),
    }))
}

async fn made(
    state: &AppState,
    usage: &Usage,
) -> Result<Option<shared::template::Rendered>, Problem> {
    let render = |template: &Compiled| {
        let locale = usage.locale.as_deref();
        template.render(locale, &usage.variables).ok()
    };
    let Some(version) = usage.version else {
        return Ok(builtin::find(&usage.name).and_then(|template| render(&template)));
    };
    let name = usage.name.clone();
    let row = state
        .pool
        .run(move |connection| templates::version(connection, &name, version))
        .await?;
    let content = row.and_then(|row| serde_json::from_value::<Content>(row.content).ok());
    let compiled =
        content.and_then(|content| Compiled::new(content, state.templates.limits()).ok());
    Ok(compiled.as_ref().and_then(render))
}
