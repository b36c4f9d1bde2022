//! `GET /problems/{slug}`: what a problem's `type` points at, as a page or, for `Accept: application/json`,
//! as JSON.

use crate::{
    app::Endpoint,
    problem::{Problem, ProblemType, page},
    web as pages,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Path, ServiceConfig},
};
use serde::Serialize;

pub fn configure(app: &mut ServiceConfig) {
    app.service(Endpoint::at("/problems/{slug}").get(show).build());
}

/// A row of the table of problems.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ProblemDescription {
    /// The `type` member of such a problem.
    #[serde(rename = "type")]
    #[schema(rename = "type", example = "/problems/unknown-kind")]
    uri: &'static str,
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What it means and what to do about it.
    help: &'static str,
}

/// Explains a problem.
#[utoipa::path(
    get,
    path = "/problems/{slug}",
    tag = "Operation",
    operation_id = "getProblem",
    summary = "Explain a problem",
    description = "Every error is `application/problem+json` (RFC 9457); its `type` points here. A page for people, or JSON for `Accept: application/json`.",
    params(("slug" = String, Path, description = "The last part of the problem's `type`", example = "unknown-kind")),
    security(()),
    responses(
        (status = 200, description = "The explanation", content(
            (ProblemDescription = "application/json"),
            (String = "text/html"),
        )),
    )
)]
pub async fn show(slug: Path<String>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let problem = ProblemType::find(&slug).ok_or_else(|| Problem::new(ProblemType::NotFound))?;
    let wants_json = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("json"));
    if wants_json {
        return Ok(HttpResponse::Ok().json(ProblemDescription {
            uri: problem.uri(),
            title: problem.title(),
            status: problem.status(),
            help: problem.help(),
        }));
    }
    Ok(pages::html(page(problem)))
}
