//! `GET /dead-letters`: what failed for good, in groups of one cause, so that a hundred thousand failures are a handful of
//! decisions.

use super::{
    request::{bad_parameter, parameters, unknown_parameter},
    tasks::resource::Timestamp,
};
use crate::{
    app::{AppState, Endpoint},
    auth::Reader,
    problem::{Problem, ProblemSchema, ProblemType},
    queries::dead_letters,
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use serde::Serialize;
use shared::task::Queue;
use uuid::Uuid;

/// Failed tasks that are looked at, the newest first.
const NEWEST: i64 = 50_000;
/// Groups in an answer.
const GROUPS: i64 = 200;
const LONGEST_KIND: usize = 100;

pub fn configure(app: &mut ServiceConfig) {
    app.service(Endpoint::at("/dead-letters").get(list).build());
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeadLetters {
    /// The largest first, at most 200.
    groups: Vec<DeadLetterGroup>,
    /// Failed tasks in all groups. Only the newest 50,000 failures are looked at.
    considered: i64,
}

/// Failures of one kind whose code is the same and whose messages differ in numbers and ids alone.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeadLetterGroup {
    #[schema(example = "email.send")]
    kind: String,
    #[schema(example = "smtp_permanent")]
    error_code: String,
    /// For the filters of `GET /tasks`, `POST /tasks/retry` and `POST /tasks/cancel`.
    fingerprint: String,
    count: i64,
    /// When the first of them became final.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    first_seen: Timestamp,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    last_seen: Timestamp,
    sample: Sample,
}

/// The newest of a group.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = DeadLetterSample)]
pub struct Sample {
    task_id: Uuid,
    message: String,
}

/// Groups of failures.
#[utoipa::path(
    get,
    path = "/api/v1/dead-letters",
    tag = "Operation",
    operation_id = "listDeadLetters",
    summary = "What failed for good, by cause",
    description = "FAILED tasks in groups. Run a group again by `POST /tasks/retry` with its `fingerprint` in the filter. Needs the scope `read`.",
    params(
        ("kind" = Option<String>, Query, example = "email.send"),
        ("queue" = Option<Queue>, Query),
    ),
    responses(
        (status = 200, description = "The groups", body = DeadLetters),
        (status = 400, description = "`invalid-parameters`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    state: Data<AppState>,
    _reader: Reader,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (mut kind, mut queue) = (None, None);
    for (name, value) in parameters(&request) {
        match name.as_str() {
            "kind" if (1..=LONGEST_KIND).contains(&value.len()) && !value.contains('\0') => {
                kind = Some(value);
            }
            "kind" => return Err(bad_parameter("kind", "must be the name of a kind")),
            "queue" if Queue::parse(&value).is_some() => queue = Some(value),
            "queue" => return Err(bad_parameter("queue", "must be mail, ai or work")),
            other => {
                let flaw = unknown_parameter(other, &["kind", "queue"]);
                return Err(Problem::flaws(ProblemType::InvalidParameters, vec![flaw]));
            }
        }
    }
    let groups = state
        .pool
        .run(move |connection| {
            dead_letters::groups(
                connection,
                kind.as_deref(),
                queue.as_deref(),
                NEWEST,
                GROUPS,
            )
        })
        .await?;
    let considered = groups.first().map_or(0, |group| group.considered);
    Ok(HttpResponse::Ok().json(DeadLetters {
        groups: groups.into_iter().map(DeadLetterGroup::from).collect(),
        considered,
    }))
}

impl From<dead_letters::Group> for DeadLetterGroup {
    fn from(group: dead_letters::Group) -> Self {
        Self {
            kind: group.kind,
            error_code: group.error_code,
            fingerprint: group.fingerprint,
            count: group.count,
            first_seen: Timestamp(group.first_seen),
            last_seen: Timestamp(group.last_seen),
            sample: Sample {
                task_id: group.sample_id,
                message: group.sample_message.unwrap_or_default(),
            },
        }
    }
}
