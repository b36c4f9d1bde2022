//! `POST /tasks/{id}/cancel`, `/retry`, `/resolve` and `PATCH /tasks/{id}`: what a person decides about one task. Each can be repeated
//! without harm, so none needs an `Idempotency-Key`.

use super::resource::TaskResource;
use crate::{
    app::AppState,
    auth::{Caller, Operator},
    endpoints::{
        request::{JsonBody, parse},
        terms::{Time, check_times, start},
    },
    problem::{Problem, ProblemSchema, ProblemType},
    queries::{
        audit::Deed,
        operate::{self, Chosen, LIVE, REPLAYABLE, Rescheduled},
        tasks,
    },
};
use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chrono::{SecondsFormat, SubsecRound, Utc};
use serde::Deserialize;
use shared::{
    fields::FieldError,
    task::{Status, TaskId},
};
use std::time::Duration;
use uuid::Uuid;

/// Cancels a task.
#[utoipa::path(
    post,
    path = "/api/v1/tasks/{id}/cancel",
    tag = "Operation",
    operation_id = "cancelTask",
    summary = "Cancel a task",
    description = "A waiting task is CANCELLED at once and for good. A running one is told to end, usually within a second, and is CANCELLED then, unless its work is done first (COMPLETED) or nobody can tell (UNKNOWN). Needs the scope `operate`.",
    params(("id" = Uuid, Path, description = "The task's id")),
    responses(
        (status = 200, description = "The task is CANCELLED; or it ended in that moment, and its status says how", body = TaskResource<'_>),
        (status = 202, description = "The task runs and is told to end", body = TaskResource<'_>),
        (status = 404, description = "`task-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "`task-state`: it is final already", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn cancel(
    state: Data<AppState>,
    Operator(caller): Operator,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = task_id(&id)?;
    let cancelled = state
        .pool
        .run(move |connection| {
            let chosen = Chosen::one(id, &LIVE);
            operate::cancel(connection, &chosen, &deed(&caller, "task.cancel"))
        })
        .await?;
    let task = load(&state, id).await?;
    match task.1 {
        Some(Status::Cancelled) => Ok(HttpResponse::Ok().json(task.0)),
        Some(Status::Processing) => Ok(HttpResponse::Accepted().json(task.0)),
        // It ended in the moment between.
        _ if cancelled.changed > 0 => Ok(HttpResponse::Ok().json(task.0)),
        other => Err(state_problem(other, "can't be cancelled any more")),
    }
}

/// Has a task run again.
#[utoipa::path(
    post,
    path = "/api/v1/tasks/{id}/retry",
    tag = "Operation",
    operation_id = "retryTask",
    summary = "Run a task again",
    description = "A task that is FAILED, CANCELLED, EXPIRED or UNKNOWN gets another round: as many attempts as it was accepted with. One that is RETRYING or SCHEDULED does not wait any longer. A `useful_until` that has passed is dropped. Needs the scope `operate`.",
    params(("id" = Uuid, Path, description = "The task's id")),
    responses(
        (status = 202, description = "The task is PENDING", body = TaskResource<'_>),
        (status = 404, description = "`task-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "`task-state`: it waits or runs already, or is COMPLETED", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn retry(
    state: Data<AppState>,
    Operator(caller): Operator,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = task_id(&id)?;
    let patience = patience(&state);
    let rows = state
        .pool
        .run(move |connection| {
            let chosen = Chosen::one(id, &REPLAYABLE);
            operate::replay(connection, &chosen, patience, &deed(&caller, "task.retry"))
        })
        .await?;
    let replayed = !rows.is_empty();
    state.publisher.offer(rows);
    let task = load(&state, id).await?;
    if replayed {
        return Ok(HttpResponse::Accepted().json(task.0));
    }
    Err(state_problem(task.1, "can't be run again"))
}

/// Another time for a task.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct TaskChange {
    /// Not before then (RFC 3339 with any offset); at once when past.
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    run_at: Option<Time>,
    /// Not before so many seconds from now; instead of `run_at`.
    #[schema(minimum = 0)]
    delay: Option<i64>,
}

/// Changes when a task runs.
#[utoipa::path(
    patch,
    path = "/api/v1/tasks/{id}",
    tag = "Operation",
    operation_id = "rescheduleTask",
    summary = "Change when a task runs",
    description = "For tasks that no worker has claimed yet. Needs the scope `operate`.",
    params(("id" = Uuid, Path, description = "The task's id")),
    request_body = TaskChange,
    responses(
        (status = 200, description = "The task as it is now", body = TaskResource<'_>),
        (status = 404, description = "`task-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "`task-state`: it has been claimed", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-fields`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn reschedule(
    state: Data<AppState>,
    Operator(caller): Operator,
    id: Path<String>,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    let id = task_id(&id)?;
    let change: TaskChange = parse(&body.0)?;
    let limits = &state.config.limits;
    let now = Utc::now().trunc_subsecs(6);
    let is_delay = change.delay.is_some();
    let mut errors = Vec::new();
    let run_at = start(change.run_at, change.delay, limits, now, &mut errors);
    check_times(run_at, None, limits, now, &mut errors);
    if run_at.is_none() && errors.is_empty() {
        let detail = "needs run_at or delay";
        errors.push(FieldError::new("", detail));
    }
    let Some(run_at) = run_at.filter(|_| errors.is_empty()) else {
        return Err(Problem::fields(errors));
    };
    let changed = state
        .pool
        .run(move |connection| {
            let deed = Deed {
                details: Some(serde_json::json!({"run_at": run_at})),
                ..deed(&caller, "task.reschedule")
            };
            operate::reschedule(connection, id, run_at, &deed)
        })
        .await?;
    if let Rescheduled::TooLate { useful_until } = changed {
        let detail = format!(
            "must be before its useful_until ({}), or no worker could start in time",
            useful_until.to_rfc3339_opts(SecondsFormat::AutoSi, true)
        );
        let field = if is_delay { "/delay" } else { "/run_at" };
        return Err(Problem::fields(vec![FieldError::new(field, detail)]));
    }
    let task = load(&state, id).await?;
    match changed {
        Rescheduled::Done => Ok(HttpResponse::Ok().json(task.0)),
        _ => Err(state_problem(task.1, "has been claimed or is final")),
    }
}

/// What a person found out about an UNKNOWN task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    /// Its work was done.
    Completed,
    /// Its work was not done, and shall not be.
    Failed,
    /// Its work was not done; it runs again.
    Retry,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Resolution {
    #[serde(rename = "as")]
    finding: Finding,
}

/// Settles a task of which nobody could tell.
#[utoipa::path(
    post,
    path = "/api/v1/tasks/{id}/resolve",
    tag = "Operation",
    operation_id = "resolveTask",
    summary = "Settle an UNKNOWN task",
    description = "For tasks with `on_worker_lost: hold` whose worker died, had to stop, lost its connection or ran out of time after the moment from which their work may have been done. `completed` and `failed` settle the task; `retry` has it run again, which may repeat its work. Needs the scope `operate`.",
    params(("id" = Uuid, Path, description = "The task's id")),
    request_body = Resolution,
    responses(
        (status = 200, description = "The task as it is now", body = TaskResource<'_>),
        (status = 404, description = "`task-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "`task-state`: it is not UNKNOWN", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-fields`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn resolve(
    state: Data<AppState>,
    Operator(caller): Operator,
    id: Path<String>,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    let id = task_id(&id)?;
    let Resolution { finding } = parse(&body.0)?;
    let patience = patience(&state);
    let (resolved, rows) = state
        .pool
        .run(move |connection| {
            let action = match finding {
                Finding::Completed => "task.resolve.completed",
                Finding::Failed => "task.resolve.failed",
                Finding::Retry => "task.resolve.retry",
            };
            let deed = deed(&caller, action);
            let status = match finding {
                Finding::Completed => Status::Completed,
                Finding::Failed => Status::Failed,
                Finding::Retry => {
                    let chosen = Chosen::one(id, &[Status::Unknown]);
                    let rows = operate::replay(connection, &chosen, patience, &deed)?;
                    return Ok((!rows.is_empty(), rows));
                }
            };
            let resolved = operate::resolve(connection, id, status, &deed)?;
            Ok((resolved, Vec::new()))
        })
        .await?;
    state.publisher.offer(rows);
    let task = load(&state, id).await?;
    if resolved {
        return Ok(HttpResponse::Ok().json(task.0));
    }
    Err(state_problem(task.1, "is not UNKNOWN"))
}

fn deed<'a>(by: &'a Caller, action: &'static str) -> Deed<'a> {
    Deed {
        by,
        action,
        details: None,
        is_bulk: false,
    }
}

/// How long the publisher has before the relay takes over.
pub(super) fn patience(state: &AppState) -> Duration {
    Duration::from_millis(state.config.outbox.relay_after_ms.into())
}

pub(in crate::endpoints) fn task_id(text: &str) -> Result<TaskId, Problem> {
    Uuid::parse_str(text).map(TaskId).map_err(|_| {
        Problem::new(ProblemType::TaskNotFound)
            .detail("The id is not the id of a task: those are UUIDs.")
    })
}

async fn load(
    state: &AppState,
    id: TaskId,
) -> Result<(TaskResource<'static>, Option<Status>), Problem> {
    let row = state
        .pool
        .run(move |connection| tasks::find(connection, id.0))
        .await?
        .ok_or_else(|| Problem::new(ProblemType::TaskNotFound))?;
    let status = row.status();
    Ok((TaskResource::from(row), status))
}

fn state_problem(status: Option<Status>, what: &str) -> Problem {
    let status = status.map_or("unknown", Status::as_str);
    Problem::new(ProblemType::TaskState).detail(format!("The task is {status} and {what}."))
}
