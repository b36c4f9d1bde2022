//! `POST /files`: contents that mails will carry.

use crate::{
    app::{AppState, Endpoint},
    auth::Submitter,
    endpoints::{tasks::resource::Timestamp, verifications::not_configured},
    problem::{Problem, ProblemSchema, ProblemType},
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Payload, ServiceConfig},
};
use chrono::{TimeDelta, Utc};
use futures_util::StreamExt as _;
use serde::Serialize;
use shared::files::FileId;
use std::time::{Duration, Instant};

/// Between two pieces of a body, and for all of it.
const SILENCE: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(300);

pub fn configure(app: &mut ServiceConfig) {
    app.service(Endpoint::at("/files").post(upload).build());
}

/// A content that is kept.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = File)]
pub struct FileResource {
    /// The SHA-256 of the content: for `attachments[].file`.
    #[schema(value_type = String)]
    id: FileId,
    /// Bytes.
    size: u64,
    /// Until then at least, and as long as a mail needs it.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    kept_until: Timestamp,
}

/// Takes a file.
#[utoipa::path(
    post,
    path = "/api/v1/files",
    tag = "Mail",
    operation_id = "uploadFile",
    summary = "Upload a file",
    description = "The body is the content, whatever its Content-Type; mails then name it by its id as often as they like. The same content is kept once, and sending it again is harmless. At most files.max_bytes (10 MiB by default). Needs the scope `submit`.",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "It is on disk", body = FileResource),
        (status = 413, description = "`body-too-large`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 501, description = "`not-configured`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "`files-unavailable`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn upload(
    state: Data<AppState>,
    Submitter(_caller): Submitter,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let Some(store) = &state.files else {
        return Err(not_configured("files.url"));
    };
    let most = state.config.files.max_bytes;
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > most) {
        return Err(too_large(most));
    }
    let _room = store.room(length.unwrap_or(most)).await?;
    let content = read(payload, most).await?;
    if content.is_empty() {
        return Err(Problem::new(ProblemType::EmptyBody));
    }
    let (id, size) = (FileId::of(&content), content.len() as u64);
    store
        .keep(&state.pool, vec![(id.clone(), content.into())])
        .await?;
    let hours = i64::from(state.config.files.keep_hours);
    Ok(HttpResponse::Created().json(FileResource {
        id,
        size,
        kept_until: Timestamp(Utc::now() + TimeDelta::hours(hours)),
    }))
}

fn too_large(most: usize) -> Problem {
    Problem::new(ProblemType::BodyTooLarge).detail(format!(
        "The body has more than the {most} bytes allowed (files.max_bytes)."
    ))
}

async fn read(mut payload: Payload, most: usize) -> Result<Vec<u8>, Problem> {
    let begin = Instant::now();
    let mut body = Vec::new();
    loop {
        // Whoever has gone without a word keeps no room.
        let next = tokio::time::timeout(SILENCE, payload.next()).await;
        let Some(chunk) = next.map_err(|_| Problem::new(ProblemType::IncompleteBody))? else {
            break;
        };
        let chunk = chunk.map_err(|_| Problem::new(ProblemType::IncompleteBody))?;
        if begin.elapsed() > LONGEST {
            return Err(Problem::new(ProblemType::IncompleteBody));
        }
        if body.len() + chunk.len() > most {
            return Err(too_large(most));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
