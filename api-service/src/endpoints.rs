//! The endpoints, a module each: routes, request and response types, handler, tests. An endpoint parses,
//! makes one call and answers.

pub mod bounces;
pub mod dead_letters;
pub mod emails;
pub mod files;
pub mod health;
pub mod kinds;
pub mod limits;
pub mod metrics;
mod page;
pub mod pausing;
pub mod person_links;
pub mod problems;
pub mod queues;
pub mod replays;
mod request;
mod submit;
pub mod suppressions;
pub mod tasks;
pub mod templates;
mod terms;
pub mod unsubscribe;
pub mod users;
pub mod verifications;
pub mod workers;

use crate::{
    auth::require_key,
    problem::{Problem, ProblemType},
    web as pages,
};
use actix_web::{
    HttpResponse,
    middleware::from_fn,
    web::{self, ServiceConfig},
};

/// Everything below here but what is for the recipients of mails, and `/health…`, `/openapi.json`, `/asyncapi.json` and `/docs` needs a key.
pub const BASE: &str = "/api/v1";

/// The API's listener. What is named before the scope is open to everybody.
pub fn configure(app: &mut ServiceConfig) {
    app.configure(health::configure)
        .configure(problems::configure)
        .configure(pages::configure)
        .configure(unsubscribe::configure)
        .configure(person_links::configure)
        .service(metrics::endpoint("/metrics").wrap(from_fn(require_key)))
        .service(
            web::scope(BASE)
                .wrap(from_fn(require_key))
                .configure(tasks::configure)
                .configure(emails::configure)
                .configure(templates::configure)
                .configure(suppressions::configure)
                .configure(bounces::configure)
                .configure(verifications::configure)
                .configure(users::configure)
                .configure(files::configure)
                .configure(dead_letters::configure)
                .configure(queues::configure)
                .configure(kinds::configure)
                .configure(limits::configure)
                .configure(workers::configure)
                .configure(replays::configure)
                .service(metrics::endpoint("/metrics"))
                .default_service(web::to(not_found)),
        )
        .default_service(web::to(not_found));
}

/// The internal listener: no keys.
pub fn configure_internal(app: &mut ServiceConfig) {
    app.configure(health::configure)
        .service(metrics::endpoint("/metrics"))
        .default_service(web::to(not_found));
}

async fn not_found() -> Result<HttpResponse, Problem> {
    Err(Problem::new(ProblemType::NotFound))
}
