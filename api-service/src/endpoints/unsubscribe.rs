//! `/unsubscribe/{token}`: for people and their mail programs, without a key. A look changes nothing, since programs look
//! at links by themselves; a POST unsubscribes (RFC 8058).

use crate::{
    app::{AppState, Endpoint},
    problem::Problem,
    queries::emails,
    web::person::{self, Language, Page},
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, ServiceConfig},
};
use diesel::Connection as _;
use shared::{
    suppression::{
        Reason,
        rows::{self, New},
    },
    unsubscribe::Unsubscription,
};

pub fn configure(app: &mut ServiceConfig) {
    app.service(
        Endpoint::at("/unsubscribe/{token}")
            .get(look)
            .post(unsubscribe)
            .build(),
    );
}

/// Asks; changes nothing.
pub async fn look(
    state: Data<AppState>,
    request: HttpRequest,
    token: Path<String>,
) -> HttpResponse {
    let language = Language::of(&request);
    match Unsubscription::of(&token, state.suppressions.peppers()) {
        Some(_) => person::page(StatusCode::OK, language, Page::Unsubscribe),
        None => person::page(StatusCode::NOT_FOUND, language, Page::UnknownLink),
    }
}

/// Unsubscribes, however often.
pub async fn unsubscribe(
    state: Data<AppState>,
    request: HttpRequest,
    token: Path<String>,
) -> Result<HttpResponse, Problem> {
    let language = Language::of(&request);
    let Some(asked) = Unsubscription::of(&token, state.suppressions.peppers()) else {
        return Ok(person::page(
            StatusCode::NOT_FOUND,
            language,
            Page::UnknownLink,
        ));
    };
    let new = New {
        address: asked.address.canonical(),
        category: Some(asked.category),
        purpose: None,
        reason: Reason::Unsubscribe,
        detail: None,
        task: Some(asked.task.0),
        expires_at: None,
        created_by: "warren".into(),
    };
    let address = new.address.clone();
    state
        .pool
        .run(move |connection| {
            connection.transaction(|connection| {
                rows::add(connection, std::slice::from_ref(&new))?;
                emails::note(connection, asked.task.0, "unsubscribed", "", "")
            })
        })
        .await?;
    state.suppressions.note([address.as_str()]);
    Ok(person::page(StatusCode::OK, language, Page::Unsubscribed))
}
