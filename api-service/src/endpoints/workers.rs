//! `/workers`: who works, on what, and how busy; draining one.

use super::{
    request::{OptionalBody, parse},
    tasks::resource::Timestamp,
};
use crate::{
    app::{AppState, Endpoint},
    auth::{Operator, Reader},
    problem::{Problem, ProblemSchema, ProblemType},
    queries::workers::{self, WorkerRow},
};
use actix_web::{
    HttpResponse,
    web::{Data, Path, ServiceConfig},
};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

const MOST: i64 = 1000;

pub fn configure(app: &mut ServiceConfig) {
    app.service(Endpoint::at("/workers").get(list).build())
        .service(Endpoint::at("/workers/{id}").get(show).build())
        .service(Endpoint::at("/workers/{id}/drain").post(drain).build())
        .service(Endpoint::at("/workers/{id}/resume").post(resume).build());
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Workers {
    workers: Vec<WorkerResource>,
}

/// A run of a worker process, as it said with its last heartbeat.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Worker)]
pub struct WorkerResource {
    id: Uuid,
    /// Host and process id.
    name: String,
    host: String,
    pid: i32,
    version: String,
    state: WorkerState,
    /// What it does when nothing runs any more, while it drains.
    then: Option<String>,
    queues: BTreeMap<String, QueueLoad>,
    /// Kinds that it can run.
    kinds: Vec<String>,
    /// The attempts that have run longest, up to 50.
    running: Vec<RunningAttempt>,
    /// Resident memory.
    rss_bytes: Option<i64>,
    /// Attempts that ended since its start.
    tasks_done: i64,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    started_at: Timestamp,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    heartbeat_at: Timestamp,
    heartbeat_age_s: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    Alive,
    /// It takes nothing new and still runs tasks.
    Draining,
    /// It takes nothing new, and nothing runs.
    Drained,
    /// It ended in order.
    Stopped,
    /// It fell silent; its tasks were rescued.
    Lost,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = WorkerQueueLoad)]
pub struct QueueLoad {
    /// Tasks that it runs at a time.
    slots: i64,
    running: i64,
    /// Messages that it holds, unacknowledged and not begun.
    held: i64,
    /// Those, and of what runs those that are acknowledged at its end.
    #[serde(default)]
    unacked: i64,
    /// The most that it holds of each lane.
    #[serde(default)]
    prefetch: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RunningAttempt {
    task_id: Uuid,
    attempt: i32,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    since: String,
}

impl From<WorkerRow> for WorkerResource {
    fn from(row: WorkerRow) -> Self {
        let mut queues: BTreeMap<String, QueueLoad> = row
            .load
            .and_then(|load| serde_json::from_value(load).ok())
            .unwrap_or_default();
        // Before its first report it is known what it takes from, and nothing else.
        for queue in row.queues {
            queues.entry(queue).or_default();
        }
        let is_idle = queues.values().all(|load| load.running + load.held == 0);
        let state = match (row.state.as_str(), row.drain.is_some()) {
            ("alive", false) => WorkerState::Alive,
            ("alive", true) if is_idle => WorkerState::Drained,
            ("alive", true) => WorkerState::Draining,
            ("stopped", _) => WorkerState::Stopped,
            _ => WorkerState::Lost,
        };
        let is_alive = row.state == "alive";
        let running = row.running.filter(|_| is_alive);
        #[expect(clippy::cast_precision_loss, reason = "a time span in milliseconds")]
        let age = (Utc::now() - row.heartbeat_at).num_milliseconds().max(0) as f64 / 1000.0;
        Self {
            id: row.id,
            name: row.name,
            host: row.host,
            pid: row.pid,
            version: row.version,
            state,
            then: row.drain.filter(|_| is_alive),
            queues,
            kinds: row.kinds,
            running: running
                .and_then(|running| serde_json::from_value(running).ok())
                .unwrap_or_default(),
            rss_bytes: row.rss_bytes,
            tasks_done: row.tasks_done,
            started_at: Timestamp(row.started_at),
            heartbeat_at: Timestamp(row.heartbeat_at),
            heartbeat_age_s: age,
        }
    }
}

/// All workers.
#[utoipa::path(
    get,
    path = "/api/v1/workers",
    tag = "Operation",
    operation_id = "listWorkers",
    summary = "The workers",
    description = "Those of the last day, living ones first. Each reports every `rescue.heartbeat_s`. Needs the scope `read`.",
    responses((status = 200, description = "The workers", body = Workers))
)]
pub async fn list(state: Data<AppState>, _reader: Reader) -> Result<HttpResponse, Problem> {
    let rows = state
        .pool
        .run(|connection| workers::list(connection, MOST))
        .await?;
    Ok(HttpResponse::Ok().json(Workers {
        workers: rows.into_iter().map(WorkerResource::from).collect(),
    }))
}

/// One worker.
#[utoipa::path(
    get,
    path = "/api/v1/workers/{id}",
    tag = "Operation",
    operation_id = "getWorker",
    summary = "A worker",
    description = "Needs the scope `read`.",
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The worker", body = WorkerResource),
        (status = 404, description = "`worker-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    state: Data<AppState>,
    _reader: Reader,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(load(&state, worker_id(&id)?).await?))
}

/// What follows a drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// The process stays, idle.
    #[default]
    Stay,
    /// The process ends.
    Exit,
    /// The process replaces itself by a fresh one.
    Restart,
}

#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct DrainRequest {
    /// When nothing runs any more; `stay` when left out.
    #[serde(default)]
    then: Then,
}

/// Drains a worker.
#[utoipa::path(
    post,
    path = "/api/v1/workers/{id}/drain",
    tag = "Operation",
    operation_id = "drainWorker",
    summary = "Drain a worker",
    description = "Within two seconds it takes nothing new and gives back what it has not begun; what it runs finishes, however long that takes. Needs the scope `operate`.",
    params(("id" = Uuid, Path)),
    request_body = Option<DrainRequest>,
    responses(
        (status = 202, description = "It drains", body = WorkerResource),
        (status = 404, description = "`worker-not-found`: there is none with this id that lives", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-fields`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn drain(
    state: Data<AppState>,
    Operator(caller): Operator,
    id: Path<String>,
    body: OptionalBody,
) -> Result<HttpResponse, Problem> {
    let id = worker_id(&id)?;
    let asked: DrainRequest = match &body.0 {
        Some(body) => parse(body)?,
        None => DrainRequest::default(),
    };
    let then = match asked.then {
        Then::Stay => "stay",
        Then::Exit => "exit",
        Then::Restart => "restart",
    };
    set_drain(&state, id, Some(then), caller).await?;
    Ok(HttpResponse::Accepted().json(load(&state, id).await?))
}

/// Calls a drain off.
#[utoipa::path(
    post,
    path = "/api/v1/workers/{id}/resume",
    tag = "Operation",
    operation_id = "resumeWorker",
    summary = "Call off the drain of a worker",
    description = "Needs the scope `operate`.",
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "It takes tasks again", body = WorkerResource),
        (status = 404, description = "`worker-not-found`: there is none with this id that lives", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn resume(
    state: Data<AppState>,
    Operator(caller): Operator,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = worker_id(&id)?;
    set_drain(&state, id, None, caller).await?;
    Ok(HttpResponse::Ok().json(load(&state, id).await?))
}

async fn set_drain(
    state: &AppState,
    id: Uuid,
    drain: Option<&'static str>,
    caller: crate::auth::Caller,
) -> Result<(), Problem> {
    let is_alive = state
        .pool
        .run(move |connection| workers::set_drain(connection, id, drain, &caller))
        .await?;
    if is_alive {
        return Ok(());
    }
    Err(Problem::new(ProblemType::WorkerNotFound)
        .detail("No worker with this id is alive, so none can be drained."))
}

fn worker_id(text: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(text).map_err(|_| Problem::new(ProblemType::WorkerNotFound))
}

async fn load(state: &AppState, id: Uuid) -> Result<WorkerResource, Problem> {
    state
        .pool
        .run(move |connection| workers::find(connection, id))
        .await?
        .map(WorkerResource::from)
        .ok_or_else(|| Problem::new(ProblemType::WorkerNotFound))
}
