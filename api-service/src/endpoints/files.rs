//! `POST /files`: contents that mails will carry.

use crate::{
    app::{AppState, Endpoint},
    auth::Submitter,
    endpoints::{
        request::{body_too_large, read_body},
        tasks::resource::Timestamp,
        verifications::not_configured,
    },
    problem::{Problem, ProblemSchema, ProblemType},
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Payload, ServiceConfig},
};
use chrono::{TimeDelta, Utc};
use serde::Serialize;
use shared::files::FileId;

const KEY: &str = "files.max_bytes";

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
        return Err(body_too_large(most, KEY));
    }
    let _room = store.room(length.unwrap_or(most)).await?;
    let content = read_body(payload, most, KEY).await?;
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
