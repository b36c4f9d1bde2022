//! `GET /tasks/{id}/why`: why a task is not running yet, and when it may be.

mod reasons;

use super::resource::Timestamp;
use crate::{
    app::AppState,
    auth::Reader,
    problem::{Problem, ProblemSchema, ProblemType},
    queries::{policy, why},
};
use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chrono::Utc;
use reasons::Seen;
use serde::Serialize;
use shared::{
    broker::LinkState,
    limits::{BucketName, Scope},
    task::Status,
};
use uuid::Uuid;

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Why {
    task_id: Uuid,
    #[schema(value_type = Status)]
    status: String,
    /// What stands in its way, the most decisive first; empty: nothing does.
    reasons: Vec<Reason>,
    /// About when it may begin, going by the work of the last minute; null: nobody can tell, or it has begun.
    #[schema(value_type = Option<DateTime<Utc>>)]
    estimated_start_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Reason {
    code: ReasonCode,
    /// For people.
    detail: String,
    /// Tasks before it, at least: of more than 100,000 not all are looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    ahead: Option<i64>,
    /// When this reason ends, where that is certain.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<DateTime<Utc>>)]
    until: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// It is final.
    Finished,
    /// It waits for a person (`POST /tasks/{id}/resolve`).
    Unknown,
    /// It runs now.
    Running,
    /// It was put off until a time.
    Scheduled,
    /// An attempt failed, and the next one has its time.
    RetryDelay,
    QueuePaused,
    KindPaused,
    /// It is over a shared limit and stands in its line.
    Limit,
    /// No living worker takes from its queue.
    NoWorker,
    /// Workers take from its queue, and none knows its kind.
    NoWorkerForKind,
    /// RabbitMQ is away, so no worker gets its message.
    BrokerDown,
    /// Its message has not been confirmed by RabbitMQ yet.
    NotPublished,
    /// Others of its lane are before it.
    Lane,
    /// The workers' slots are all taken.
    Slots,
}

/// Why a task is not running yet.
#[utoipa::path(
    get,
    path = "/api/v1/tasks/{id}/why",
    tag = "Tasks",
    operation_id = "explainTask",
    summary = "Why a task is not running yet",
    description = "What stands in its way, with an estimate of its start. Needs the scope `read`.",
    params(("id" = Uuid, Path, description = "The task's id")),
    responses(
        (status = 200, description = "The reasons", body = Why),
        (status = 404, description = "`task-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    state: Data<AppState>,
    _reader: Reader,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = super::operate::task_id(&id)?.0;
    let found = state
        .pool
        .run(move |connection| {
            let Some((stand, slots)) = why::stand(connection, id)? else {
                return Ok(None);
            };
            let scope = stand.wait_scope.as_deref().and_then(Scope::parse);
            let line = scope.zip(stand.wait_name.clone());
            let allowance = match line.map(|(scope, name)| BucketName { scope, name }) {
                Some(line) => policy::allowance(connection, &line)?,
                None => None,
            };
            Ok(Some((stand, slots, allowance)))
        })
        .await?;
    let (stand, slots, allowance) = found.ok_or_else(|| Problem::new(ProblemType::TaskNotFound))?;
    let seen = Seen {
        slots,
        allowance,
        broker_is_up: *state.broker.borrow() == LinkState::Up,
        now: Utc::now(),
    };
    let reasons = seen.reasons(&stand);
    let estimated_start_at = seen.estimate(&stand, &reasons).map(Timestamp);
    Ok(HttpResponse::Ok().json(Why {
        task_id: id,
        status: stand.status,
        reasons,
        estimated_start_at,
    }))
}
