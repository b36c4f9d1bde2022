//! `/users`: people who have signed up, welcomed in the commit that stores them.

pub mod create;
pub mod erase;

use crate::{
    app::{AppState, Endpoint},
    auth::Reader,
    endpoints::{
        BASE,
        page::Page,
        request::{bad_parameter, parameters, unknown_parameter},
        tasks::resource::{Links, Timestamp},
    },
    problem::{Problem, ProblemSchema, ProblemType},
    queries::users::{self, Row},
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path, ServiceConfig},
};
use serde::Serialize;
use shared::{address::EmailAddress, task::TaskId};
use uuid::Uuid;

pub fn configure(app: &mut ServiceConfig) {
    app.service(
        Endpoint::at("/users")
            .get(list)
            .post(create::create)
            .build(),
    )
    .service(
        Endpoint::at("/users/{id}")
            .get(show)
            .delete(erase::delete)
            .build(),
    )
    .service(Endpoint::at("/erasures/{id}").get(erase::show).build());
}

/// Somebody who has signed up.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = User)]
pub struct UserResource {
    id: Uuid,
    email: String,
    username: String,
    locale: Option<String>,
    /// When the address was proven by a verification, whatever its purpose; null: not yet.
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    verified_at: Option<Timestamp>,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    created_at: Timestamp,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    updated_at: Timestamp,
    links: UserLinks,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct UserLinks {
    #[serde(rename = "self")]
    #[schema(rename = "self")]
    this: String,
    /// The task of the welcome mail; null: none was wanted.
    welcome: Option<String>,
}

impl From<&Row> for UserResource {
    fn from(row: &Row) -> Self {
        Self {
            id: row.id,
            email: row.email.clone(),
            username: row.username.clone(),
            locale: row.locale.clone(),
            verified_at: row.verified_at.map(Timestamp),
            created_at: Timestamp(row.created_at),
            updated_at: Timestamp(row.updated_at),
            links: UserLinks {
                this: format!("{BASE}/users/{}", row.id),
                welcome: row.task_id.map(|task| Links::of(TaskId(task)).this),
            },
        }
    }
}

/// A page of users, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct UserPage {
    items: Vec<UserResource>,
    /// For `?cursor=`; null on the last page.
    next_cursor: Option<String>,
}

fn user_id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| not_found())
}

fn not_found() -> Problem {
    Problem::new(ProblemType::UserNotFound)
}

/// Lists users.
#[utoipa::path(
    get,
    path = "/api/v1/users",
    tag = "Users",
    operation_id = "listUsers",
    summary = "List users",
    description = "Newest first. Needs the scope `read`.",
    params(
        ("email" = Option<String>, Query, description = "The one with this address (a + is written %2B)"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, description = "At most that many; 50 when left out, at most http.max_page (200 by default)"),
    ),
    responses(
        (status = 200, description = "A page", body = UserPage),
        (status = 400, description = "`invalid-parameters`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    state: Data<AppState>,
    _reader: Reader,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut email = None;
    let mut page = Page::first(&state);
    for (name, value) in parameters(&request) {
        match name.as_str() {
            "email" => {
                let address = EmailAddress::parse(&value)
                    .map_err(|error| bad_parameter("email", error.to_string()))?;
                email = Some(address.canonical());
            }
            other if page.take(other, &value)? => {}
            other => {
                let flaw = unknown_parameter(other, &["email", "cursor", "limit"]);
                return Err(Problem::flaws(ProblemType::InvalidParameters, vec![flaw]));
            }
        }
    }
    let (below, count) = (page.below, page.rows());
    let mut rows = state
        .pool
        .run(move |connection| users::list(connection, email.as_deref(), below, count))
        .await?;
    let next_cursor = page.cut(&mut rows, |row| row.id);
    Ok(HttpResponse::Ok().json(UserPage {
        next_cursor,
        items: rows.iter().map(UserResource::from).collect(),
    }))
}

/// Shows a user.
#[utoipa::path(
    get,
    path = "/api/v1/users/{id}",
    tag = "Users",
    operation_id = "getUser",
    summary = "Show a user",
    description = "Needs the scope `read`.",
    params(("id" = Uuid, Path, description = "The user's id")),
    responses(
        (status = 200, description = "The user", body = UserResource),
        (status = 404, description = "`user-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    state: Data<AppState>,
    _reader: Reader,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = user_id(&id)?;
    let row = state
        .pool
        .run(move |connection| users::find(connection, id))
        .await?
        .ok_or_else(not_found)?;
    Ok(HttpResponse::Ok().json(UserResource::from(&row)))
}
