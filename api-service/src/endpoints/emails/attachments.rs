//! The attachments of a mail: as they are asked for, checked, and put where the workers find them.

use crate::{app::AppState, problem::Problem, queries::files};
use actix_web::web::Bytes;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use shared::{
    attachment::{
        Attachment, check_content_id, check_content_type, check_filename, encoded_size, extension,
    },
    config,
    fields::FieldError,
    files::FileId,
};
use std::collections::{HashMap, HashSet};

const UNKNOWN_TYPE: &str = "application/octet-stream";

/// A file that goes with a mail: an upload, or its content.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = NewAttachment)]
pub struct AttachmentRequest {
    /// 1 to 255 bytes.
    #[schema(example = "receipt.pdf")]
    filename: String,
    /// When left out, by the name's extension.
    #[schema(example = "application/pdf")]
    content_type: Option<String>,
    /// The content in base64 (RFC 4648, 4). For larger ones see `POST /files`: a request has at most `http.max_body_bytes`.
    content: Option<String>,
    /// Instead of `content`: the id that `POST /files` has answered.
    #[schema(value_type = Option<String>)]
    file: Option<FileId>,
    /// Of an image that the HTML part shows: `logo` for `<img src="cid:logo">`.
    content_id: Option<String>,
}

/// An attachment that is in order, as far as can be told without the store.
#[derive(Debug)]
pub(super) struct Part {
    attachment: Attachment,
    /// None: it was uploaded before.
    content: Option<Bytes>,
}

/// Checks what can be checked by itself.
pub(super) fn check(
    asked: Vec<AttachmentRequest>,
    config: &config::Files,
) -> Result<Vec<Part>, Vec<FieldError>> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    if config.url.is_empty() {
        let detail = "need a place to be kept: files.url is not configured";
        return Err(vec![FieldError::new("/attachments", detail)]);
    }
    if asked.len() > config.max_per_mail {
        let detail = format!("are more than {} (files.max_per_mail)", config.max_per_mail);
        return Err(vec![FieldError::new("/attachments", detail)]);
    }
    let mut errors = Vec::new();
    let mut ids = HashSet::new();
    let mut parts = Vec::with_capacity(asked.len());
    for (at, one) in asked.into_iter().enumerate() {
        let is_twice = one
            .content_id
            .as_ref()
            .is_some_and(|id| !ids.insert(id.clone()));
        if is_twice {
            let pointer = format!("/attachments/{at}/content_id");
            errors.push(FieldError::new(pointer, "is that of another one too"));
        }
        match part(one, config) {
            Ok(part) => parts.push(part),
            Err(wrong) => {
                let base = format!("/attachments/{at}");
                errors.extend(wrong.into_iter().map(|error| error.below(&base)));
            }
        }
    }
    if errors.is_empty() {
        Ok(parts)
    } else {
        Err(errors)
    }
}

fn part(asked: AttachmentRequest, config: &config::Files) -> Result<Part, Vec<FieldError>> {
    let mut errors = Vec::new();
    let mut note = |pointer: &str, checked: Result<(), String>| {
        if let Err(detail) = checked {
            errors.push(FieldError::new(pointer, detail));
        }
    };
    let owned = |checked: Result<(), &str>| checked.map_err(str::to_owned);
    let blocked = extension(&asked.filename)
        .map(str::to_ascii_lowercase)
        .filter(|extension| config.is_blocked(extension));
    note(
        "/filename",
        match blocked {
            None => owned(check_filename(&asked.filename)),
            Some(extension) => Err(format!(
                "files of the type .{extension} are refused, as mail programs do (files.blocked_extensions)"
            )),
        },
    );
    let guess = || {
        let guess = mime_guess::from_path(&asked.filename).first();
        let guess = guess.map(|kind| kind.essence_str().to_owned());
        guess.filter(|kind| check_content_type(kind).is_ok())
    };
    let kind = asked.content_type.or_else(guess);
    let kind = kind.unwrap_or_else(|| UNKNOWN_TYPE.to_owned());
    note("/content_type", owned(check_content_type(&kind)));
    if let Some(id) = &asked.content_id {
        note("/content_id", owned(check_content_id(id)));
    }
    let content = asked.content.map(|content| BASE64_STANDARD.decode(content));
    let found = match (content, asked.file) {
        (Some(Ok(content)), None) if content.len() <= config.max_bytes => {
            Some((FileId::of(&content), Some(Bytes::from(content))))
        }
        (Some(Ok(_)), None) => {
            let most = config.max_bytes;
            let detail = format!("has more than the {most} bytes allowed (files.max_bytes)");
            note("/content", Err(detail));
            None
        }
        (Some(Err(_)), None) => {
            let detail = "must be base64 with padding and without line breaks (RFC 4648, 4)";
            note("/content", Err(detail.into()));
            None
        }
        (None, Some(file)) => Some((file, None)),
        (Some(_), Some(_)) | (None, None) => {
            note("", Err("must have either content or file".into()));
            None
        }
    };
    match found {
        Some((file, content)) if errors.is_empty() => Ok(Part {
            attachment: Attachment {
                file,
                filename: asked.filename,
                content_type: kind,
                size: content.as_ref().map_or(0, |content| content.len() as u64),
                content_id: asked.content_id,
            },
            content,
        }),
        _ => Err(errors),
    }
}

/// Finds the uploads among the parts, and keeps the contents of the others. `texts`: the bytes of what else is in the
/// mail.
pub(super) async fn keep(
    state: &AppState,
    parts: Vec<Part>,
    texts: u64,
) -> Result<Result<Vec<Attachment>, Vec<FieldError>>, Problem> {
    let Some(store) = &state.files else {
        return Ok(Ok(Vec::new()));
    };
    let uploads: Vec<FileId> = parts
        .iter()
        .filter(|part| part.content.is_none())
        .map(|part| part.attachment.file.clone())
        .collect();
    let known = if uploads.is_empty() {
        HashMap::new()
    } else {
        let touch = move |connection: &mut _| files::touch(connection, &uploads);
        state.pool.run(touch).await?
    };
    let mut errors = Vec::new();
    let mut attachments = Vec::with_capacity(parts.len());
    let mut contents = Vec::new();
    for (at, part) in parts.into_iter().enumerate() {
        let mut attachment = part.attachment;
        match (part.content, known.get(&attachment.file)) {
            (Some(content), _) => contents.push((attachment.file.clone(), content)),
            (None, Some(size)) => attachment.size = *size,
            (None, None) => {
                let detail =
                    "is no upload, or one that was deleted since no mail used it (POST /files)";
                errors.push(FieldError::new(format!("/attachments/{at}/file"), detail));
            }
        }
        attachments.push(attachment);
    }
    let encoded: u64 = attachments.iter().map(|one| encoded_size(one.size)).sum();
    let most = state.config.files.max_mail_bytes as u64;
    if encoded + texts > most {
        let detail = format!(
            "make a mail of up to {} bytes, more than the {most} allowed (files.max_mail_bytes)",
            encoded + texts
        );
        errors.push(FieldError::new("/attachments", detail));
    }
    if !errors.is_empty() {
        return Ok(Err(errors));
    }
    store.keep(&state.pool, contents).await?;
    Ok(Ok(attachments))
}
