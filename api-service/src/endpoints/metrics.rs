//! `GET /metrics`: what this process has counted, in Prometheus' text format.

use crate::app::{AppState, Endpoint};
use actix_web::{HttpResponse, Resource, web::Data};

/// On the internal listener it is open; on the API's it stands behind a key.
pub fn endpoint(path: &'static str) -> Resource {
    Endpoint::at(path).get(show).build()
}

/// Metrics of this process.
#[utoipa::path(
    get,
    path = "/api/v1/metrics",
    tag = "Operation",
    operation_id = "getMetrics",
    summary = "Metrics",
    description = "What this process has counted, in Prometheus' text format. Also at `/metrics`, and without a key on the internal listener (`http.metrics_listen`).",
    responses((status = 200, description = "Metrics", body = String, content_type = "text/plain"))
)]
pub async fn show(state: Data<AppState>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(state.metrics.render())
}
