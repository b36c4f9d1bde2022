//! `/replays`: failures that run again behind a canary. They are begun by `POST /tasks/retry` with `canary`.

pub mod canary;
pub mod resource;

use super::{
    page::Page,
    request::{parameters, unknown_parameter},
};
use crate::{
    app::{AppState, Endpoint},
    auth::{Caller, Operator, Reader},
    problem::{Problem, ProblemSchema, ProblemType},
    queries::{
        replays::{self, NewReplay},
        tasks::Filter,
    },
    replayer::ReplayState,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, ServiceConfig},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use canary::Canary;
use resource::ReplayResource;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Failed tasks that are named.
const FAILURES: i64 = 10;

pub fn configure(app: &mut ServiceConfig) {
    app.service(Endpoint::at("/replays").get(list).build())
        .service(Endpoint::at("/replays/{id}").get(show).build())
        .service(Endpoint::at("/replays/{id}/stop").post(stop).build());
}

/// A replay to begin.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) filter: Filter,
    /// As the request said it, and as the audit log says it.
    pub(super) asked: Value,
    pub(super) noted: Value,
    pub(super) canary: Canary,
    pub(super) limit: usize,
    /// Tasks that the filter finds now, and whether that is all of them.
    pub(super) matched: usize,
    pub(super) counted: bool,
}

/// Writes the replay down; the replayer does the rest.
pub(super) async fn begin(
    state: &AppState,
    caller: Caller,
    start: Start,
) -> Result<HttpResponse, Problem> {
    let filter = serde_json::to_value(&start.filter).map_err(Problem::internal)?;
    let digest = Sha256::digest(filter.to_string());
    let bigint = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let new = NewReplay {
        id: Uuid::now_v7(),
        state: ReplayState::Running.as_str(),
        asked: start.asked,
        filter,
        digest: URL_SAFE_NO_PAD.encode(digest),
        at_most: bigint(start.limit),
        canary: start.canary.first,
        min_success: start.canary.min_success,
        rate_per_s: start.canary.rate_per_s,
        timeout_s: start.canary.timeout_s,
        share_of: start.canary.window,
        max_waiting: start.canary.max_waiting,
        matched: bigint(start.matched),
        counted: start.counted,
        created_by: caller.key_id,
        actor: caller.name.to_string(),
    };
    let noted = start.noted;
    let begun = state
        .pool
        .run(move |connection| replays::begin(connection, &new, &caller, &noted))
        .await?;
    let row = begun.map_err(|live| {
        let live = live.map_or_else(String::new, |id| format!(", {id}"));
        Problem::new(ProblemType::ReplayState).detail(format!(
            "A replay with this filter goes on already{live}. Wait for its end, or stop it."
        ))
    })?;
    let replay = ReplayResource::from(row);
    Ok(HttpResponse::Accepted()
        .insert_header((header::LOCATION, replay.links.this.clone()))
        .json(replay))
}

/// Part of a list of replays.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ReplayPage {
    /// Newest first.
    items: Vec<ReplayResource>,
    /// `cursor` of the next page; null: this was the last.
    next_cursor: Option<String>,
}

/// Lists replays.
#[utoipa::path(
    get,
    path = "/api/v1/replays",
    tag = "Operation",
    operation_id = "listReplays",
    summary = "List replays with a canary",
    description = "Newest first. Needs the scope `read`.",
    params(
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, description = "At most that many; 50 when left out, at most http.max_page (200 by default)"),
    ),
    responses(
        (status = 200, description = "A page", body = ReplayPage),
        (status = 400, description = "`invalid-parameters`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    state: Data<AppState>,
    _reader: Reader,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut page = Page::first(&state);
    for (name, value) in parameters(&request) {
        match name.as_str() {
            other if page.take(other, &value)? => {}
            other => {
                let flaw = unknown_parameter(other, &["cursor", "limit"]);
                return Err(Problem::flaws(ProblemType::InvalidParameters, vec![flaw]));
            }
        }
    }
    let (below, count) = (page.below, page.rows());
    let mut rows = state
        .pool
        .run(move |connection| replays::list(connection, below, count))
        .await?;
    let next_cursor = page.cut(&mut rows, |row| row.id);
    Ok(HttpResponse::Ok().json(ReplayPage {
        next_cursor,
        items: rows.into_iter().map(ReplayResource::from).collect(),
    }))
}

/// Shows a replay.
#[utoipa::path(
    get,
    path = "/api/v1/replays/{id}",
    tag = "Operation",
    operation_id = "getReplay",
    summary = "Show how far a replay has come",
    description = "Needs the scope `read`.",
    params(("id" = Uuid, Path, description = "The replay's id")),
    responses(
        (status = 200, description = "The replay", body = ReplayResource),
        (status = 404, description = "`replay-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    state: Data<AppState>,
    _reader: Reader,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let replay = load(&state, replay_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(replay))
}

/// Stops a replay.
#[utoipa::path(
    post,
    path = "/api/v1/replays/{id}/stop",
    tag = "Operation",
    operation_id = "stopReplay",
    summary = "Stop a replay",
    description = "No more tasks are run again; those that were go on, and are counted. Needs the scope `operate`.",
    params(("id" = Uuid, Path, description = "The replay's id")),
    responses(
        (status = 200, description = "The replay is CANCELLED", body = ReplayResource),
        (status = 404, description = "`replay-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "`replay-state`: it has ended by itself", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn stop(
    state: Data<AppState>,
    Operator(caller): Operator,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = replay_id(&id)?;
    state
        .pool
        .run(move |connection| replays::stop(connection, id, &caller))
        .await?;
    let replay = load(&state, id).await?;
    if replay.is(ReplayState::Cancelled) {
        return Ok(HttpResponse::Ok().json(replay));
    }
    Err(Problem::new(ProblemType::ReplayState).detail("The replay has ended by itself."))
}

fn replay_id(text: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(text).map_err(|_| Problem::new(ProblemType::ReplayNotFound))
}

async fn load(state: &AppState, id: Uuid) -> Result<ReplayResource, Problem> {
    let (row, failures) = state
        .pool
        .run(move |connection| {
            let row = replays::find(connection, id)?;
            let failures = match &row {
                Some(row) if row.failed > 0 => replays::failures(connection, id, FAILURES)?,
                _ => Vec::new(),
            };
            Ok((row, failures))
        })
        .await?;
    let row = row.ok_or_else(|| Problem::new(ProblemType::ReplayNotFound))?;
    Ok(ReplayResource::from(row).with_failures(failures))
}
