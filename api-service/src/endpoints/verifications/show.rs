//! `GET /verifications/{id}` and `/statistics`: for callers who may know.

use super::{check::Proof, not_found, verification_id};
use crate::{
    app::AppState,
    auth::{Reader, Scope},
    endpoints::{
        request::{bad_parameter, parameters, unknown_parameter},
        tasks::resource::{Links, TaskError, Timestamp},
    },
    problem::{Problem, ProblemSchema, ProblemType},
    queries::{
        tasks,
        verifications::{self, Counts},
    },
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use chrono::Utc;
use serde::Serialize;
use shared::{
    task::{Status, TaskId},
    verification::Form,
};
use uuid::Uuid;

const DEFAULT_HOURS: i32 = 24;

/// A verification, and what became of its mail.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Verification)]
pub struct VerificationResource {
    id: Uuid,
    purpose: String,
    recipient: String,
    form: Form,
    /// `pending`, `verified`, `expired`, `failed` (its tries are used up) or `disowned` (the recipient did not ask for it).
    #[schema(value_type = String)]
    state: &'static str,
    tries: i32,
    tries_left: i32,
    /// Mails.
    sends: i32,
    locale: Option<String>,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    created_at: Timestamp,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    expires_at: Timestamp,
    /// Once it is verified; for a while with its receipt, for keys with the scope `submit`.
    verified: Option<Proof>,
    /// The latest mail; null: its task was deleted.
    delivery: Option<Delivery>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = VerificationDelivery)]
pub struct Delivery {
    #[schema(value_type = Status)]
    status: String,
    error: Option<TaskError<'static>>,
    links: Links,
}

/// Shows a verification.
#[utoipa::path(
    get,
    path = "/api/v1/verifications/{id}",
    tag = "Verification",
    operation_id = "getVerification",
    summary = "Look at a verification",
    description = "Needs the scope `read`.",
    params(("id" = Uuid, Path, description = "The verification's id")),
    responses(
        (status = 200, description = "The verification", body = VerificationResource),
        (status = 404, description = "`verification-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    state: Data<AppState>,
    Reader(caller): Reader,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = verification_id(&id)?;
    let found = state
        .pool
        .run(move |connection| {
            let Some(row) = verifications::find(connection, id)? else {
                return Ok(None);
            };
            let task = tasks::find(connection, row.task_id)?;
            Ok(Some((row, task)))
        })
        .await?;
    let (row, task) = found.ok_or_else(not_found)?;
    let may_check = caller.scopes.allow(Scope::Submit);
    let most = i32::from(state.config.verification.max_attempts);
    let is_over = row.state == "pending" && row.expires_at <= Utc::now();
    let shown = match row.state.as_str() {
        "pending" if is_over => "expired",
        "pending" => "pending",
        "verified" => "verified",
        "failed" => "failed",
        "disowned" => "disowned",
        _ => "expired",
    };
    Ok(HttpResponse::Ok().json(VerificationResource {
        id,
        purpose: row.purpose.clone(),
        recipient: row.recipient.clone(),
        form: row.form(),
        state: shown,
        tries: row.attempts,
        tries_left: if shown == "pending" {
            (most - row.attempts).max(0)
        } else {
            0
        },
        sends: row.sends,
        locale: row.locale.clone(),
        created_at: Timestamp(row.created_at),
        expires_at: Timestamp(row.expires_at),
        delivery: task.map(|task| Delivery {
            links: Links::of(TaskId(task.id)),
            error: task.error_code.map(|code| TaskError {
                code: code.into(),
                message: task.error_message.unwrap_or_default().into(),
            }),
            status: task.status,
        }),
        verified: Proof::of(&state, row, may_check),
    }))
}

/// What became of codes.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct VerificationStatistics {
    hours: i32,
    /// By purpose.
    purposes: Vec<Counts>,
}

/// Counts verifications.
#[utoipa::path(
    get,
    path = "/api/v1/verifications/statistics",
    tag = "Verification",
    operation_id = "countVerifications",
    summary = "Count what became of codes",
    description = "Of the last hours, as far as verifications are kept (verification.keep_days). Needs the scope `read`.",
    params(("hours" = Option<u32>, Query, description = "1 to 8784; 24 when left out")),
    responses(
        (status = 200, description = "Counts by purpose", body = VerificationStatistics),
        (status = 400, description = "`invalid-parameters`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn statistics(
    state: Data<AppState>,
    _reader: Reader,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut hours = DEFAULT_HOURS;
    for (name, value) in parameters(&request) {
        if name != "hours" {
            let flaw = unknown_parameter(&name, &["hours"]);
            return Err(Problem::flaws(ProblemType::InvalidParameters, vec![flaw]));
        }
        let asked = value
            .parse()
            .ok()
            .filter(|hours| (1..=8784).contains(hours));
        hours = asked.ok_or_else(|| bad_parameter("hours", "must be 1 to 8784"))?;
    }
    let purposes = state
        .pool
        .run(move |connection| verifications::statistics(connection, hours))
        .await?;
    Ok(HttpResponse::Ok().json(VerificationStatistics { hours, purposes }))
}
