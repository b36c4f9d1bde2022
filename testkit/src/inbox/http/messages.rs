//! `/api/v1/messages` and `/api/v1/search`: lists, newest first, and deleting.

use std::sync::Arc;

use actix_web::{Responder, delete, get, web};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ApiError, State, off_thread, search::Query, summary::Summary};
use crate::inbox::{Message, Stats};

/// Mails of one answer at most; each is parsed for it.
const MAX_LIMIT: usize = 10_000;

#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    start: usize,
    #[serde(default = "default_limit")]
    limit: usize,
    /// Only for a search.
    #[serde(default)]
    query: String,
}

fn default_limit() -> usize {
    50
}

#[derive(Debug, Serialize)]
struct List {
    /// Mails in the inbox.
    total: usize,
    unread: usize,
    /// Mails in this answer.
    count: usize,
    /// Mails in all pages.
    messages_count: usize,
    messages_unread: usize,
    start: usize,
    tags: [String; 0],
    messages: Vec<Summary>,
}

#[get("/api/v1/messages")]
pub(super) async fn list(state: State, page: web::Query<Page>) -> Result<impl Responder, ApiError> {
    let answer = off_thread(move || {
        let counts = state.store.stats();
        let mails = state.store.page(page.start, page.limit.min(MAX_LIMIT));
        List::of(counts, (counts.kept, counts.unread), page.start, &mails)
    });
    Ok(web::Json(answer.await?))
}

#[get("/api/v1/search")]
pub(super) async fn search(
    state: State,
    page: web::Query<Page>,
) -> Result<impl Responder, ApiError> {
    let query = Query::parse(&page.query).ok_or_else(|| ApiError::bad("no search query"))?;
    let answer = off_thread(move || {
        let counts = state.store.stats();
        let mut mails = state.store.messages();
        mails.retain(|mail| query.matches(mail));
        let found = (
            mails.len(),
            mails.iter().filter(|mail| !mail.is_read()).count(),
        );
        let limit = page.limit.min(MAX_LIMIT);
        let mails: Vec<_> = mails
            .into_iter()
            .rev()
            .skip(page.start)
            .take(limit)
            .collect();
        List::of(counts, found, page.start, &mails)
    });
    Ok(web::Json(answer.await?))
}

impl List {
    fn of(
        stats: Stats,
        (found, unread_found): (usize, usize),
        start: usize,
        mails: &[Arc<Message>],
    ) -> Self {
        let messages: Vec<_> = mails.iter().map(|mail| Summary::of(mail)).collect();
        Self {
            total: stats.kept,
            unread: stats.unread,
            count: messages.len(),
            messages_count: found,
            messages_unread: unread_found,
            start,
            tags: [],
            messages,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deletion {
    #[serde(default, rename = "IDs")]
    ids: Vec<Uuid>,
}

/// Deletes the mails of `{"IDs": […]}`; all mails where the body is empty or names none.
#[delete("/api/v1/messages")]
pub(super) async fn delete(state: State, body: web::Bytes) -> Result<impl Responder, ApiError> {
    let deletion = if body.trim_ascii().is_empty() {
        Deletion::default()
    } else {
        serde_json::from_slice(&body).map_err(ApiError::bad)?
    };
    if deletion.ids.is_empty() {
        state.clear();
    } else {
        state.store.delete(&deletion.ids);
    }
    Ok("ok")
}
