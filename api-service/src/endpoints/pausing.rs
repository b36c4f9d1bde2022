//! What pausing a queue and pausing a kind have in common.

use super::{
    request::{OptionalBody, parse},
    tasks::resource::Timestamp,
};
use crate::{
    app::AppState,
    auth::Caller,
    problem::Problem,
    queries::policy::{self, Pause},
};
use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};
use shared::{fields::FieldError, limits::Scope};

const LONGEST_REASON: usize = 500;

#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct PauseRequest {
    /// For people.
    #[schema(max_length = 500, example = "the relay is being moved")]
    reason: Option<String>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Pause)]
pub struct PauseResource {
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    since: Timestamp,
    /// The name of the API key.
    by: String,
    reason: Option<String>,
}

/// The pause of that queue or kind, if it is paused.
pub(super) fn paused_by(pauses: &[Pause], scope: Scope, name: &str) -> Option<PauseResource> {
    pauses
        .iter()
        .find(|pause| pause.scope == scope.as_str() && pause.name == name)
        .map(|pause| PauseResource {
            since: Timestamp(pause.paused_at),
            by: pause.paused_by.clone(),
            reason: pause.reason.clone(),
        })
}

pub(super) async fn pause(
    state: &AppState,
    scope: Scope,
    name: &str,
    caller: Caller,
    body: OptionalBody,
) -> Result<HttpResponse, Problem> {
    let asked: PauseRequest = match &body.0 {
        Some(body) => parse(body)?,
        None => PauseRequest::default(),
    };
    let is_odd = |reason: &String| {
        reason.len() > LONGEST_REASON || reason.chars().any(|c| c.is_control() && c != '\n')
    };
    if asked.reason.as_ref().is_some_and(is_odd) {
        let detail = format!("must be at most {LONGEST_REASON} bytes without control characters");
        return Err(Problem::fields(vec![FieldError::new("/reason", detail)]));
    }
    let name = name.to_owned();
    let pauses = state
        .pool
        .run({
            let name = name.clone();
            move |connection| {
                policy::pause(connection, scope, &name, asked.reason.as_deref(), &caller)?;
                policy::pauses(connection)
            }
        })
        .await?;
    // Null: somebody resumed it in this moment.
    Ok(HttpResponse::Ok().json(paused_by(&pauses, scope, &name)))
}

pub(super) async fn resume(
    state: &AppState,
    scope: Scope,
    name: &str,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let name = name.to_owned();
    state
        .pool
        .run(move |connection| policy::resume(connection, scope, &name, &caller))
        .await?;
    Ok(HttpResponse::NoContent().finish())
}
