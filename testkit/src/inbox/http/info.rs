//! `/api/v1/info` and `/readyz`, as Mailpit has them.

use actix_web::{Responder, get, web};
use serde_json::json;

use super::State;

#[get("/api/v1/info")]
pub(super) async fn show(state: State) -> impl Responder {
    let counts = state.store.stats();
    web::Json(json!({
        "Version": concat!("warren-inbox ", env!("CARGO_PKG_VERSION")),
        "Database": "memory",
        "DatabaseSize": counts.bytes,
        "Messages": counts.kept,
        "Unread": counts.unread,
        "Tags": {},
        "RuntimeStats": {
            "Uptime": state.started.elapsed().as_secs(),
            "MessagesDeleted": counts.deleted,
            "MessagesDropped": counts.dropped,
            "SMTPAccepted": counts.accepted,
            "SMTPAcceptedSize": counts.accepted_bytes,
            "SMTPConnections": state.gate.connections(),
        },
        "KeepRaw": state.options.keep_raw,
    }))
}

#[get("/readyz")]
pub(super) async fn ready() -> impl Responder {
    "ok"
}
