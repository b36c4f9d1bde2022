//! `/magic/{token}` and `/not-me/{token}`: links in mails of codes, for their recipients, without a key. A look changes
//! nothing, since mail programs look at links by themselves.

use super::verifications::is_right;
use crate::{
    app::{AppState, Endpoint},
    problem::Problem,
    queries::verifications::{self, Checked, Row},
    web::person::{self, Language, Page},
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, ServiceConfig},
};
use chrono::Utc;
use shared::verification::{self, Form, NotMe};

pub fn configure(app: &mut ServiceConfig) {
    app.service(
        Endpoint::at("/magic/{token}")
            .get(look_at_magic)
            .post(confirm)
            .build(),
    )
    .service(
        Endpoint::at("/not-me/{token}")
            .get(look_at_not_me)
            .post(disown)
            .build(),
    );
}

/// Asks; changes nothing.
pub async fn look_at_magic(
    state: Data<AppState>,
    request: HttpRequest,
    token: Path<String>,
) -> Result<HttpResponse, Problem> {
    let language = Language::of(&request);
    let Some(row) = of_magic(&state, &token).await? else {
        return Ok(unknown(language));
    };
    let is_open = row.state == "pending" && row.expires_at > Utc::now();
    Ok(if is_open {
        person::page(StatusCode::OK, language, Page::MagicLink)
    } else {
        person::page(StatusCode::GONE, language, Page::MagicLinkOver)
    })
}

/// Consumes the link, once.
pub async fn confirm(
    state: Data<AppState>,
    request: HttpRequest,
    token: Path<String>,
) -> Result<HttpResponse, Problem> {
    let language = Language::of(&request);
    // A link that is not right costs its verification no try: nobody guesses 192 bits.
    let Some(row) = of_magic(&state, &token).await? else {
        return Ok(unknown(language));
    };
    let checked = {
        let inner = state.clone();
        let work = move |connection: &mut _| {
            let right = |row: &Row| is_right(&inner, row, &token);
            verifications::check(connection, row.id, &inner.config.verification, &right)
        };
        state.pool.run(work).await?
    };
    Ok(match checked {
        Checked::Verified(_) => person::page(StatusCode::OK, language, Page::MagicLinkDone),
        _ => person::page(StatusCode::GONE, language, Page::MagicLinkOver),
    })
}

/// The verification whose link this is.
async fn of_magic(state: &Data<AppState>, token: &str) -> Result<Option<Row>, Problem> {
    let Some(id) = verification::of_link(token) else {
        return Ok(None);
    };
    let row = state
        .pool
        .run(move |connection| verifications::find(connection, id))
        .await?;
    Ok(row.filter(|row| row.form() == Form::Link && !row.decoy && is_right(state, row, token)))
}

/// Asks; changes nothing.
pub async fn look_at_not_me(
    state: Data<AppState>,
    request: HttpRequest,
    token: Path<String>,
) -> HttpResponse {
    let language = Language::of(&request);
    match NotMe::of(&token, state.suppressions.peppers()) {
        Some(_) => person::page(StatusCode::OK, language, Page::NotMe),
        None => unknown(language),
    }
}

/// Ends the code, and keeps such mails from the address.
pub async fn disown(
    state: Data<AppState>,
    request: HttpRequest,
    token: Path<String>,
) -> Result<HttpResponse, Problem> {
    let language = Language::of(&request);
    let Some(who) = NotMe::of(&token, state.suppressions.peppers()) else {
        return Ok(unknown(language));
    };
    let address = who.recipient.clone();
    state
        .pool
        .run(move |connection| verifications::disown(connection, &who))
        .await?;
    state.suppressions.note([address.as_str()]);
    Ok(person::page(StatusCode::OK, language, Page::NotMeDone))
}

fn unknown(language: Language) -> HttpResponse {
    person::page(StatusCode::NOT_FOUND, language, Page::UnknownLink)
}
