//! `GET /tasks/{id}/timeline`: what happened to a task, in order.

mod published;

pub use published::Published;

use super::resource::{Progress, TaskError, Timestamp};
use crate::{
    app::AppState,
    auth::Reader,
    problem::{Problem, ProblemSchema, ProblemType},
    queries::timeline::{self, Attempt, Deed, Present, Timeline},
};
use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::task::Status;
use uuid::Uuid;

/// Attempts, and operators' actions, that are shown.
const NEWEST: i64 = 500;

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TaskTimeline {
    id: Uuid,
    /// Oldest first. Of very many attempts, the newest 500.
    events: Vec<TimelineEvent>,
}

/// What can happen to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Happening {
    Accepted,
    /// The time it was put off to.
    Due,
    /// Its message was given to RabbitMQ; `confirmed` says whether RabbitMQ has it.
    Published,
    /// A worker claimed it.
    Started,
    /// How far the running attempt has come.
    Progress,
    /// The latest that an attempt has put out, so far.
    Output,
    /// An attempt failed.
    Failed,
    /// The worker that ran it died.
    WorkerLost,
    /// The worker had to stop and gave it back.
    Released,
    /// An operator did something; `action` says what.
    Operator,
    /// It is final; `status` says how.
    Finished,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TimelineEvent {
    /// Null for `published`, of which only bounds are on record.
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    at: Option<Timestamp>,
    event: Happening,
    #[serde(flatten)]
    published: Option<Published>,
    #[serde(flatten)]
    output: Option<Output>,
    #[serde(flatten)]
    progress: Option<Progress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<TaskError<'static>>,
    /// When the next attempt was due after this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    next_attempt_at: Option<Timestamp>,
    /// E.g. `task.cancel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    /// The name of the API key that it was done with.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Status>)]
    status: Option<String>,
}

/// What an attempt has put out.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Output {
    chunks: i64,
    bytes: i64,
    /// More was put out than `output.max_bytes`, and is not kept.
    truncated: bool,
}

/// What happened to a task.
#[utoipa::path(
    get,
    path = "/api/v1/tasks/{id}/timeline",
    tag = "Tasks",
    operation_id = "getTaskTimeline",
    summary = "What happened to a task",
    description = "When it was accepted and published, claimed by whom, how far it is, how each attempt failed and what came next, what operators did, how it ended. Needs the scope `read`.",
    params(("id" = Uuid, Path, description = "The task's id")),
    responses(
        (status = 200, description = "Its events", body = TaskTimeline),
        (status = 404, description = "`task-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    state: Data<AppState>,
    _reader: Reader,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = super::operate::task_id(&id)?.0;
    let timeline = state
        .pool
        .run(move |connection| timeline::timeline(connection, id, NEWEST))
        .await?
        .ok_or_else(|| Problem::new(ProblemType::TaskNotFound))?;
    Ok(HttpResponse::Ok().json(TaskTimeline {
        id,
        events: events(timeline),
    }))
}

fn events(timeline: Timeline) -> Vec<TimelineEvent> {
    let next_attempt = timeline.present.attempt + 1;
    let present = of_present(&timeline);
    let outputs = timeline.outputs.iter().map(of_output);
    let deeds = timeline.deeds.into_iter().map(of_deed);
    let attempts = timeline.attempts.into_iter().flat_map(of_attempt);
    // Of what happened in one moment, the task's end comes last.
    let mut events: Vec<_> = outputs
        .chain(deeds)
        .chain(attempts)
        .chain(present)
        .collect();
    events.sort_by_key(|event| event.at.map(|at| at.0));
    published::with_messages(
        events,
        timeline.message.map(|message| (next_attempt, message)),
    )
}

fn event(at: DateTime<Utc>, event: Happening) -> TimelineEvent {
    TimelineEvent {
        at: Some(Timestamp(at)),
        event,
        published: None,
        output: None,
        progress: None,
        attempt: None,
        worker: None,
        error: None,
        next_attempt_at: None,
        action: None,
        by: None,
        status: None,
    }
}

fn of_output(output: &timeline::Output) -> TimelineEvent {
    TimelineEvent {
        attempt: Some(output.attempt),
        output: Some(Output {
            chunks: output.chunks,
            bytes: output.bytes,
            truncated: output.truncated,
        }),
        ..event(output.at, Happening::Output)
    }
}

fn of_present(timeline: &Timeline) -> Vec<TimelineEvent> {
    let present: &Present = &timeline.present;
    let mut events = vec![event(present.created_at, Happening::Accepted)];
    if let Some(run_at) = present.run_at.filter(|run_at| *run_at > present.created_at) {
        events.push(event(run_at, Happening::Due));
    }
    // The start of an attempt that failed is told by the attempt.
    let is_told = timeline
        .attempts
        .iter()
        .any(|one| one.attempt == present.attempt);
    if let Some(started_at) = present.started_at.filter(|_| !is_told) {
        events.push(TimelineEvent {
            attempt: Some(present.attempt),
            worker: present.worker.clone(),
            ..event(started_at, Happening::Started)
        });
    }
    let progress = present
        .progress
        .as_ref()
        .filter(|_| present.status == Status::Processing.as_str())
        .and_then(|json| serde_json::from_str(&json.0).ok());
    if let Some(progress) = progress {
        events.push(TimelineEvent {
            attempt: Some(present.attempt),
            progress: Some(progress),
            ..event(present.updated_at, Happening::Progress)
        });
    }
    if let Some(finished_at) = present.finished_at {
        events.push(TimelineEvent {
            status: Some(present.status.clone()),
            error: error(present.error_code.clone(), present.error_message.clone()),
            ..event(finished_at, Happening::Finished)
        });
    }
    events
}

fn of_attempt(attempt: Attempt) -> Vec<TimelineEvent> {
    let happening = match attempt.outcome.as_str() {
        "worker_lost" => Happening::WorkerLost,
        "released" => Happening::Released,
        _ => Happening::Failed,
    };
    let started = attempt.started_at.map(|started_at| TimelineEvent {
        attempt: Some(attempt.attempt),
        worker: attempt.worker.clone(),
        ..event(started_at, Happening::Started)
    });
    let ended = TimelineEvent {
        attempt: Some(attempt.attempt),
        worker: attempt.worker,
        error: error(attempt.error_code, attempt.error_message),
        next_attempt_at: attempt.next_attempt_at.map(Timestamp),
        ..event(attempt.ended_at, happening)
    };
    started.into_iter().chain([ended]).collect()
}

fn of_deed(deed: Deed) -> TimelineEvent {
    TimelineEvent {
        action: Some(deed.action),
        by: Some(deed.actor),
        ..event(deed.at, Happening::Operator)
    }
}

fn error(code: Option<String>, message: Option<String>) -> Option<TaskError<'static>> {
    Some(TaskError {
        code: code?.into(),
        message: message.unwrap_or_default().into(),
    })
}
