//! The HTTP side: the part of Mailpit's REST API that people use, in Mailpit's shapes, so that its clients work
//! here too; what it lacks (deliveries by task, fault rules); and the page.
//!
//! Mails are parsed on blocking threads: somebody's search never holds up somebody's page.

use std::{net::TcpListener, sync::Arc};

use actix_web::{
    App, HttpResponse, HttpServer, ResponseError,
    dev::Server,
    http::{StatusCode, header},
    middleware::DefaultHeaders,
    web,
};
use serde_json::json;

use super::Shared;

mod deliveries;
mod faults;
mod info;
mod message;
mod messages;
mod page;
mod search;
mod summary;

/// The state that handlers get.
type State = web::Data<Shared>;

/// The server, to be polled by the caller.
pub(super) fn server(listener: TcpListener, shared: &Arc<Shared>) -> anyhow::Result<Server> {
    let state = State::from(Arc::clone(shared));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(state.clone())
            .app_data(
                web::QueryConfig::default().error_handler(|error, _| ApiError::bad(error).into()),
            )
            .wrap(
                DefaultHeaders::new()
                    .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
                    .add((header::REFERRER_POLICY, "no-referrer"))
                    .add((header::CACHE_CONTROL, "no-store"))
                    .add((
                        header::CONTENT_SECURITY_POLICY,
                        "default-src 'none'; sandbox",
                    )),
            )
            .configure(routes)
    });
    Ok(server
        .workers(1)
        .worker_max_blocking_threads(2)
        .disable_signals()
        .listen(listener)?
        .run())
}

fn routes(app: &mut web::ServiceConfig) {
    app.service(messages::list)
        .service(messages::search)
        .service(messages::delete)
        .service(message::show)
        .service(message::show_headers)
        .service(message::show_raw)
        .service(message::download)
        .service(deliveries::list)
        .service(faults::list)
        .service(faults::replace)
        .service(faults::remove)
        .service(info::show)
        .service(info::ready)
        .configure(page::routes);
}

/// An answer other than success, as `{"Error": …}`.
#[derive(Debug)]
struct ApiError {
    status: StatusCode,
    text: String,
}

impl ApiError {
    fn bad(problem: impl std::fmt::Display) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            text: problem.to_string(),
        }
    }

    fn not_found(what: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            text: format!("{what} not found"),
        }
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::build(self.status).json(json!({ "Error": self.text }))
    }
}

/// Runs work on mails off the server's thread. A panic of the parser becomes a 500.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let outcome =
        web::block(move || std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))).await;
    outcome.ok().and_then(Result::ok).ok_or_else(|| ApiError {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        text: "the mail could not be parsed".to_owned(),
    })
}
