//! `/verifications`: codes and links that prove that somebody reads an address.
//!
//! A key that may do nothing else (the scope `verify`) is for callers whom nobody trusts, such as an app on a phone: what
//! it is answered is the same whoever the recipient is, and whether a mail was sent or not.

pub mod ask;
pub mod check;
pub(super) mod mail;
pub mod show;
pub(super) mod sources;

use crate::{
    app::{AppState, Endpoint},
    problem::{Problem, ProblemType},
    queries::verifications::Row,
};
use actix_web::web::ServiceConfig;
use shared::pepper::Pepper;
use uuid::Uuid;

pub fn configure(app: &mut ServiceConfig) {
    app.service(Endpoint::at("/verifications").post(ask::create).build())
        .service(
            Endpoint::at("/verifications/statistics")
                .get(show::statistics)
                .build(),
        )
        .service(
            Endpoint::at("/verifications/receipts")
                .post(check::receipt)
                .build(),
        )
        .service(Endpoint::at("/verifications/{id}").get(show::show).build())
        .service(
            Endpoint::at("/verifications/{id}/check")
                .post(check::check)
                .build(),
        )
        .service(
            Endpoint::at("/verifications/{id}/resend")
                .post(ask::resend)
                .build(),
        );
}

fn verification_id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| not_found())
}

fn not_found() -> Problem {
    Problem::new(ProblemType::VerificationNotFound)
}

pub(super) fn not_configured(keys: &str) -> Problem {
    Problem::new(ProblemType::NotConfigured).detail(format!("This needs {keys}."))
}

/// The secret that new codes are made with.
fn pepper(state: &AppState) -> Result<&Pepper, Problem> {
    let pepper = state.suppressions.peppers().first();
    pepper.ok_or_else(|| not_configured("secrets.peppers"))
}

/// Whether this is the code; not where its secret is gone.
pub(super) fn is_right(state: &AppState, row: &Row, given: &str) -> bool {
    let pepper = state.suppressions.peppers().find(&row.pepper);
    pepper.is_some_and(|pepper| row.subject().is_proven_by(given, pepper))
}
