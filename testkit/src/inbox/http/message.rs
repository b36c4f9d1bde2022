//! `/api/v1/message/{id}`: one mail; `latest` stands for the newest.

use std::{collections::HashMap, sync::Arc};

use actix_web::{
    HttpResponse, Responder, get,
    http::header::{self, ContentDisposition, DispositionParam, DispositionType},
    web,
};
use mail_parser::{MessageParser, MimeHeaders as _};
use serde::{Serialize, Serializer};

use super::{ApiError, State, off_thread, summary::Detail};
use crate::inbox::{Message, parsed};

#[get("/api/v1/message/{id}")]
pub(super) async fn show(state: State, id: web::Path<String>) -> Result<impl Responder, ApiError> {
    let message = find(&state, &id)?;
    state.store.mark_read(&message);
    Ok(web::Json(off_thread(move || Detail::of(&message)).await?))
}

/// All header fields: name to values, not decoded.
#[get("/api/v1/message/{id}/headers")]
pub(super) async fn show_headers(
    state: State,
    id: web::Path<String>,
) -> Result<impl Responder, ApiError> {
    let message = find(&state, &id)?;
    Ok(web::Json(off_thread(move || Headers::of(&message)).await?))
}

/// Fields in the order of the mail, those of one name together, names in any case.
struct Headers(Vec<(String, Vec<String>)>);

impl Headers {
    fn of(message: &Message) -> Self {
        let mut fields: Vec<(String, Vec<String>)> = Vec::new();
        let mut places = HashMap::new();
        for (name, value) in parsed::all_headers(&message.raw) {
            let place = *places
                .entry(name.to_ascii_lowercase())
                .or_insert(fields.len());
            match fields.get_mut(place) {
                Some((_, values)) => values.push(value),
                None => fields.push((name, vec![value])),
            }
        }
        Self(fields)
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, values)| (name, values)))
    }
}

/// The mail as it came. As plain text, so that a browser shows it and never runs it.
#[get("/api/v1/message/{id}/raw")]
pub(super) async fn show_raw(
    state: State,
    id: web::Path<String>,
) -> Result<impl Responder, ApiError> {
    let message = find(&state, &id)?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(message.raw.clone()))
}

/// The decoded content of a part, for saving and for images within HTML.
#[get("/api/v1/message/{id}/part/{part}")]
pub(super) async fn download(
    state: State,
    path: web::Path<(String, usize)>,
) -> Result<impl Responder, ApiError> {
    let (id, index) = path.into_inner();
    let message = find(&state, &id)?;
    let found = off_thread(move || part_of(&message, index)).await?;
    let (kind, name, content) = found.ok_or_else(|| ApiError::not_found("part"))?;
    let disposition = ContentDisposition {
        disposition: DispositionType::Attachment,
        parameters: vec![DispositionParam::Filename(name)],
    };
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, kind))
        .insert_header(disposition)
        .body(content))
}

/// Content type, file name and content. What isn't an image keeps no type a browser might act upon.
fn part_of(message: &Message, index: usize) -> Option<(String, String, Vec<u8>)> {
    let mail = MessageParser::default().parse(&message.raw[..])?;
    let part = mail.parts.get(index)?;
    let kind = parsed::content_type(part);
    let image = kind.starts_with("image/") && kind.bytes().all(|byte| byte.is_ascii_graphic());
    let kind = if image {
        kind
    } else {
        "application/octet-stream".to_owned()
    };
    let name = part
        .attachment_name()
        .unwrap_or("part")
        .replace(|letter: char| letter.is_control(), "_");
    Some((kind, name, part.contents().to_vec()))
}

fn find(state: &State, id: &str) -> Result<Arc<Message>, ApiError> {
    let found = if id == "latest" {
        state.store.latest()
    } else {
        id.parse().ok().and_then(|id| state.store.get(id))
    };
    found.ok_or_else(|| ApiError::not_found("message"))
}
