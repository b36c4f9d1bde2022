//! `DELETE /users/{id}`: somebody is erased.

use super::{not_found, user_id};
use crate::{
    app::AppState,
    auth::{Operator, Reader},
    endpoints::{BASE, tasks::resource::Timestamp, verifications::not_configured},
    problem::{Problem, ProblemSchema},
    queries::{
        erasures::{self, Row},
        users,
    },
};
use actix_web::{
    HttpResponse,
    http::header,
    web::{Data, Path},
};
use serde::Serialize;
use shared::{address::EmailAddress, suppression::erased_form};
use uuid::Uuid;

/// What is left of a person is being removed, or has been.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Erasure)]
pub struct ErasureResource {
    /// The user's.
    id: Uuid,
    state: ErasureState,
    /// Tasks that had something to be removed, so far.
    tasks: i64,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    created_at: Timestamp,
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    finished_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ErasureState {
    Running,
    Finished,
}

impl From<Row> for ErasureResource {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            state: if row.finished_at.is_some() {
                ErasureState::Finished
            } else {
                ErasureState::Running
            },
            tasks: row.tasks,
            created_at: Timestamp(row.created_at),
            finished_at: row.finished_at.map(Timestamp),
        }
    }
}

/// Erases a user.
#[utoipa::path(
    delete,
    path = "/api/v1/users/{id}",
    tag = "Users",
    operation_id = "deleteUser",
    summary = "Erase a user",
    description = "The user and their verifications are gone at once; their suppressions go on, under a keyed hash. Then all tasks there are by now are gone through: mails to the person that wait are cancelled and lose all that is theirs, and wherever else the address stands, `erased@erased.invalid` takes its place. That takes about a minute with the defaults, since tasks may be on their way to disk. Files of `retention.archive_dir` are yours. Needs the scope `operate`.",
    params(("id" = Uuid, Path, description = "The user's id")),
    responses(
        (status = 202, description = "The user is gone, and the tasks are being gone through", body = ErasureResource, headers(
            ("Location" = String, description = "Tells when that is done"),
        )),
        (status = 404, description = "`user-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 501, description = "`not-configured`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn delete(
    state: Data<AppState>,
    Operator(caller): Operator,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = user_id(&id)?;
    let peppers = state.suppressions.peppers().clone();
    if peppers.first().is_none() {
        return Err(not_configured("secrets.peppers"));
    }
    let (erasure, address) = state
        .pool
        .run(move |connection| {
            let form = |email: &str| erased_form(&EmailAddress::parse(email).ok()?, &peppers);
            users::delete(connection, id, &form, &caller)
        })
        .await?
        .ok_or_else(not_found)?;
    // So that mails accepted here from now on are judged by it.
    state.suppressions.note([address.as_str()]);
    Ok(HttpResponse::Accepted()
        .insert_header((header::LOCATION, format!("{BASE}/erasures/{id}")))
        .json(ErasureResource::from(erasure)))
}

/// Shows an erasure.
#[utoipa::path(
    get,
    path = "/api/v1/erasures/{id}",
    tag = "Users",
    operation_id = "getErasure",
    summary = "See whether a person was erased",
    description = "Kept for `retention.audit_days`. Needs the scope `read`.",
    params(("id" = Uuid, Path, description = "The user's id")),
    responses(
        (status = 200, description = "The erasure", body = ErasureResource),
        (status = 404, description = "`user-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    state: Data<AppState>,
    _reader: Reader,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = user_id(&id)?;
    let row = state
        .pool
        .run(move |connection| erasures::find(connection, id))
        .await?
        .ok_or_else(not_found)?;
    Ok(HttpResponse::Ok().json(ErasureResource::from(row)))
}
