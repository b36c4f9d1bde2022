//! `/kinds`: what this service can do; pausing and resuming a kind.

use super::{
    pausing::{PauseRequest, PauseResource, paused_by},
    request::OptionalBody,
};
use crate::{
    app::{AppState, Endpoint},
    auth::{Operator, Reader},
    problem::{Problem, ProblemSchema, ProblemType},
    queries::policy,
};
use actix_web::{
    HttpResponse,
    web::{Data, Path, ServiceConfig},
};
use serde::Serialize;
use shared::{
    kinds::{self, KINDS, KindInfo},
    limits::Scope,
    task::Queue,
};

pub fn configure(app: &mut ServiceConfig) {
    app.service(Endpoint::at("/kinds").get(list).build())
        .service(Endpoint::at("/kinds/{kind}/pause").post(pause).build())
        .service(Endpoint::at("/kinds/{kind}/resume").post(resume).build());
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Kinds {
    kinds: Vec<KindResource>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Kind)]
pub struct KindResource {
    #[schema(example = "email.send")]
    name: &'static str,
    /// Where its tasks go that name no queue.
    #[schema(value_type = Queue)]
    queue: &'static str,
    /// Attempts of a task that asks for no number.
    max_attempts: u16,
    soft_time_limit_s: u64,
    hard_time_limit_s: u64,
    /// Set while nothing of it is begun.
    paused: Option<PauseResource>,
}

/// All kinds.
#[utoipa::path(
    get,
    path = "/api/v1/kinds",
    tag = "Operation",
    operation_id = "listKinds",
    summary = "The kinds of task",
    description = "Needs the scope `read`.",
    responses((status = 200, description = "The kinds that are accepted here", body = Kinds))
)]
pub async fn list(state: Data<AppState>, _reader: Reader) -> Result<HttpResponse, Problem> {
    let pauses = state.pool.run(policy::pauses).await?;
    let kinds = KINDS
        .iter()
        .filter(|kind| is_known(kind, &state))
        .map(|kind| KindResource {
            name: kind.name,
            queue: kind.queue.as_str(),
            max_attempts: kind.backoff.max_attempts,
            soft_time_limit_s: kind.limits.soft.as_secs(),
            hard_time_limit_s: kind.limits.hard.as_secs(),
            paused: paused_by(&pauses, Scope::Kind, kind.name),
        })
        .collect();
    Ok(HttpResponse::Ok().json(Kinds { kinds }))
}

/// Demonstration kinds are there only where they are switched on.
pub(super) fn is_known(kind: &KindInfo, state: &AppState) -> bool {
    !kind.demo || state.config.service.demo_kinds
}

/// Pauses a kind.
#[utoipa::path(
    post,
    path = "/api/v1/kinds/{kind}/pause",
    tag = "Operation",
    operation_id = "pauseKind",
    summary = "Pause a kind of task",
    description = "Workers begin nothing of it from two seconds later at the latest; what runs finishes, and accepting goes on. Its tasks step aside for those of other kinds, without using up attempts. Survives restarts. Needs the scope `operate`.",
    params(("kind" = String, Path, example = "email.send")),
    request_body = Option<PauseRequest>,
    responses(
        (status = 200, description = "It is paused", body = PauseResource),
        (status = 404, description = "`kind-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn pause(
    state: Data<AppState>,
    Operator(caller): Operator,
    kind: Path<String>,
    body: OptionalBody,
) -> Result<HttpResponse, Problem> {
    let kind = of_name(&kind)?;
    super::pausing::pause(&state, Scope::Kind, kind, caller, body).await
}

/// Resumes a kind.
#[utoipa::path(
    post,
    path = "/api/v1/kinds/{kind}/resume",
    tag = "Operation",
    operation_id = "resumeKind",
    summary = "Resume a kind of task",
    description = "Needs the scope `operate`.",
    params(("kind" = String, Path, example = "email.send")),
    responses(
        (status = 204, description = "It is not paused"),
        (status = 404, description = "`kind-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn resume(
    state: Data<AppState>,
    Operator(caller): Operator,
    kind: Path<String>,
) -> Result<HttpResponse, Problem> {
    let kind = of_name(&kind)?;
    super::pausing::resume(&state, Scope::Kind, kind, caller).await
}

fn of_name(name: &str) -> Result<&'static str, Problem> {
    kinds::find(name)
        .map(|kind| kind.name)
        .ok_or_else(|| Problem::new(ProblemType::KindNotFound))
}
