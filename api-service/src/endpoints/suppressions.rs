//! `/suppressions`: addresses that get no mails, or none of a category.

pub mod resource;
pub mod transfer;

use super::{
    page::Page,
    request::{JsonBody, bad_parameter, parameters, parse, unknown_parameter},
    terms::Time,
};
use crate::{
    app::{AppState, Endpoint},
    auth::{Caller, Operator, Reader},
    problem::{Problem, ProblemSchema, ProblemType},
    queries::suppressions::{self, Filter},
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, ServiceConfig},
};
use chrono::Utc;
use resource::{SuppressionPage, SuppressionResource};
use serde::Deserialize;
use shared::{
    address::EmailAddress,
    category::Category,
    fields::FieldError,
    suppression::{ALL_CATEGORIES, Reason, rows::New},
};
use transfer::{export, import};
use uuid::Uuid;

const LONGEST_DETAIL: usize = 500;

pub fn configure(app: &mut ServiceConfig) {
    app.service(Endpoint::at("/suppressions").get(list).post(create).build())
        .service(Endpoint::at("/suppressions/export").get(export).build())
        .service(Endpoint::at("/suppressions/import").post(import).build())
        .service(
            Endpoint::at("/suppressions/{id}")
                .get(show)
                .delete(delete)
                .build(),
        );
}

/// An address that is to get no mails.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = NewSuppression)]
pub struct SuppressionRequest {
    #[schema(value_type = String, example = "ada@example.com")]
    address: EmailAddress,
    /// When left out: of all categories.
    category: Option<Category>,
    /// `manual` when left out.
    reason: Option<Reason>,
    /// For people; not the address.
    #[schema(max_length = 500)]
    detail: Option<String>,
    /// When it ends; never when left out.
    #[schema(value_type = Option<chrono::DateTime<Utc>>)]
    expires_at: Option<Time>,
}

impl SuppressionRequest {
    fn check(self, caller: &Caller) -> Result<New, Vec<FieldError>> {
        let mut errors = Vec::new();
        if self
            .detail
            .as_ref()
            .is_some_and(|text| text.len() > LONGEST_DETAIL || text.contains('\0'))
        {
            let detail = format!("must be at most {LONGEST_DETAIL} bytes, without NUL");
            errors.push(FieldError::new("/detail", detail));
        }
        if self.expires_at.is_some_and(|end| end.0 <= Utc::now()) {
            errors.push(FieldError::new("/expires_at", "must lie in the future"));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(New {
            address: self.address.canonical(),
            category: self.category,
            purpose: None,
            reason: self.reason.unwrap_or(Reason::Manual),
            detail: self.detail,
            task: None,
            expires_at: self.expires_at.map(|end| end.0),
            created_by: caller.name.to_string(),
        })
    }
}

/// Lists suppressions.
#[utoipa::path(
    get,
    path = "/api/v1/suppressions",
    tag = "Mail",
    operation_id = "listSuppressions",
    summary = "List suppressions",
    description = "Newest first. Needs the scope `read`.",
    params(
        ("address" = Option<String>, Query, description = "Of this address (a + is written %2B)"),
        ("category" = Option<String>, Query, description = "Of this category, or `*`: those of all"),
        ("reason" = Option<String>, Query, description = "For this reason"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, description = "At most that many; 50 when left out, at most http.max_page (200 by default)"),
    ),
    responses(
        (status = 200, description = "A page", body = SuppressionPage),
        (status = 400, description = "`invalid-parameters`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    state: Data<AppState>,
    _reader: Reader,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut page = Page::first(&state);
    let mut filter = Filter::default();
    for (name, value) in parameters(&request) {
        match name.as_str() {
            "address" => {
                let address = EmailAddress::parse(&value)
                    .map_err(|error| bad_parameter("address", error.to_string()))?;
                filter.forms = Some(state.suppressions.forms(&address));
            }
            "category" => {
                if value != ALL_CATEGORIES && Category::parse(&value).is_none() {
                    let detail = "must be transactional, security, marketing or *";
                    return Err(bad_parameter("category", detail));
                }
                filter.category = Some(value);
            }
            "reason" => {
                if Reason::parse(&value).is_none() {
                    let names = Reason::ALL.map(Reason::as_str).join(", ");
                    return Err(bad_parameter("reason", format!("must be one of {names}")));
                }
                filter.reason = Some(value);
            }
            other if page.take(other, &value)? => {}
            other => {
                let known = ["address", "category", "reason", "cursor", "limit"];
                let flaw = unknown_parameter(other, &known);
                return Err(Problem::flaws(ProblemType::InvalidParameters, vec![flaw]));
            }
        }
    }
    let (below, count) = (page.below, page.rows());
    let mut rows = state
        .pool
        .run(move |connection| suppressions::list(connection, &filter, below, count))
        .await?;
    let next_cursor = page.cut(&mut rows, |row| row.id);
    Ok(HttpResponse::Ok().json(SuppressionPage {
        next_cursor,
        items: rows.into_iter().map(SuppressionResource::from).collect(),
    }))
}

/// Suppresses an address.
#[utoipa::path(
    post,
    path = "/api/v1/suppressions",
    tag = "Mail",
    operation_id = "createSuppression",
    summary = "Suppress an address",
    description = "Mails to it are answered as suppressed from now on, and those that wait are not sent; in other processes within two seconds. One that is there already for the same address and category is replaced. Needs the scope `operate`.",
    request_body = SuppressionRequest,
    responses(
        (status = 200, description = "It replaces one that was there", body = SuppressionResource),
        (status = 201, description = "It is new", body = SuppressionResource),
        (status = 422, description = "`invalid-fields`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn create(
    state: Data<AppState>,
    Operator(caller): Operator,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    let new = parse::<SuppressionRequest>(&body.0)?
        .check(&caller)
        .map_err(Problem::fields)?;
    let (row, is_new) = state
        .pool
        .run(move |connection| suppressions::put(connection, &new, &caller))
        .await?;
    state.suppressions.note([row.address.as_str()]);
    let suppression = SuppressionResource::from(row);
    let mut answer = if is_new {
        HttpResponse::Created()
    } else {
        HttpResponse::Ok()
    };
    Ok(answer
        .insert_header((header::LOCATION, suppression.links.this.clone()))
        .json(suppression))
}

/// Shows a suppression.
#[utoipa::path(
    get,
    path = "/api/v1/suppressions/{id}",
    tag = "Mail",
    operation_id = "getSuppression",
    summary = "Show a suppression",
    description = "Needs the scope `read`.",
    params(("id" = Uuid, Path, description = "The suppression's id")),
    responses(
        (status = 200, description = "The suppression", body = SuppressionResource),
        (status = 404, description = "`suppression-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    state: Data<AppState>,
    _reader: Reader,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = suppression_id(&id)?;
    let row = state
        .pool
        .run(move |connection| suppressions::find(connection, id))
        .await?
        .ok_or_else(not_found)?;
    Ok(HttpResponse::Ok().json(SuppressionResource::from(row)))
}

/// Lets an address have mails again.
#[utoipa::path(
    delete,
    path = "/api/v1/suppressions/{id}",
    tag = "Mail",
    operation_id = "deleteSuppression",
    summary = "Let an address have mails again",
    description = "Mails that were suppressed stay so; `POST /tasks/{id}/retry` sends one. Needs the scope `operate`.",
    params(("id" = Uuid, Path, description = "The suppression's id")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "`suppression-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn delete(
    state: Data<AppState>,
    Operator(caller): Operator,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = suppression_id(&id)?;
    let deleted = state
        .pool
        .run(move |connection| suppressions::delete(connection, id, &caller))
        .await?;
    if deleted {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(not_found())
    }
}

fn suppression_id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| not_found())
}

fn not_found() -> Problem {
    Problem::new(ProblemType::SuppressionNotFound)
}
