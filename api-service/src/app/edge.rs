//! The outermost layer: gives each request its id, turns every error and panic into a problem that names
//! it, logs what went wrong inside, and counts.

use super::endpoint::RouteName;
use crate::{
    budget,
    problem::{Problem, ProblemType},
};
use actix_web::{
    Error, HttpResponse, ResponseError,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    error::PayloadError,
    http::{
        Method, StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
};
use futures_util::FutureExt;
use metrics::{Counter, Histogram};
use std::{cell::RefCell, collections::HashMap, panic::AssertUnwindSafe, time::Instant};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Middleware, to be the outermost.
pub(super) async fn edge(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse, Error> {
    let begin = Instant::now();
    let id = request_id(request.headers());
    // A panic ends its own request and nothing else: handlers share only what is safe to find half done.
    match AssertUnwindSafe(next.call(request)).catch_unwind().await {
        Ok(Ok(response)) => Ok(finish(response.map_into_boxed_body(), id, begin)),
        Ok(Err(error)) => {
            let problem = of_error(&error).of_request(text(&id));
            log(&problem, text(&id), "");
            Err(problem.into())
        }
        Err(_panic) => {
            // The panic hook has reported what and where.
            tracing::error!(request.id = text(&id), "a request handler panicked");
            Err(Problem::new(ProblemType::Internal)
                .of_request(text(&id))
                .into())
        }
    }
}

fn finish(mut response: ServiceResponse, id: HeaderValue, begin: Instant) -> ServiceResponse {
    let route = response
        .request()
        .app_data::<RouteName>()
        .map_or("", |route| route.0);
    if let Some(problem) = problem_of(response.response()) {
        let problem = problem.of_request(text(&id));
        log(&problem, text(&id), route);
        let (request, unnamed) = response.into_parts();
        let mut named = problem.error_response();
        for name in budget::HEADERS {
            if let Some(value) = unnamed.headers().get(&name) {
                named.headers_mut().insert(name, value.clone());
            }
        }
        response = ServiceResponse::new(request, named);
    }
    count(method(&response), route, response.status(), begin);
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// The caller's own id if it is fit for a log line, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_fit = |id: &HeaderValue| {
        (1..=128).contains(&id.len())
            && id
                .as_bytes()
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"._-:".contains(b))
    };
    match headers.get(&REQUEST_ID) {
        Some(id) if is_fit(id) => id.clone(),
        _ => HeaderValue::from_str(&format!("{:032x}", rand::random::<u128>()))
            .unwrap_or(HeaderValue::from_static("unknown")),
    }
}

fn text(id: &HeaderValue) -> &str {
    id.to_str().unwrap_or_default()
}

fn problem_of(response: &HttpResponse) -> Option<Problem> {
    response.error().map(of_error)
}

/// Ours as it is; the framework's own by their status.
fn of_error(error: &Error) -> Problem {
    if let Some(problem) = error.as_error::<Problem>() {
        return problem.clone();
    }
    if error.as_error::<PayloadError>().is_some() {
        return Problem::new(ProblemType::IncompleteBody);
    }
    match error.as_response_error().status_code() {
        StatusCode::NOT_FOUND => Problem::new(ProblemType::NotFound),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(ProblemType::BodyTooLarge),
        status if status.is_client_error() => Problem::new(ProblemType::InvalidHeader),
        _ => Problem::internal(std::io::Error::other(error.to_string())),
    }
}

/// An outage is logged by the loops that live on the database; here it would be a line per request.
fn log(problem: &Problem, request: &str, route: &str) {
    let Some(cause) = problem.cause() else { return };
    if problem.kind == ProblemType::Internal {
        tracing::error!(
            error = cause,
            request.id = request,
            http.route = route,
            "a request failed"
        );
    } else {
        tracing::debug!(
            error = cause,
            request.id = request,
            http.route = route,
            "a request was turned away"
        );
    }
}

type Meters = HashMap<(&'static str, &'static str, u16), (Counter, Histogram)>;

thread_local! {
    /// Looked up once per worker, route and status.
    static METERS: RefCell<Meters> = RefCell::default();
}

/// Callers can send any word as a method; few become labels.
fn method(response: &ServiceResponse) -> &'static str {
    match *response.request().method() {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

fn count(method: &'static str, route: &'static str, status: StatusCode, begin: Instant) {
    METERS.with_borrow_mut(|meters| {
        let (requests, seconds) = meters.entry((method, route, status.as_u16())).or_insert_with(|| {
            let requests = metrics::counter!(
                "warren_http_requests_total", "method" => method, "route" => route, "status" => status.as_str().to_owned()
            );
            let seconds = metrics::histogram!("warren_http_request_seconds", "method" => method, "route" => route);
            (requests, seconds)
        });
        requests.increment(1);
        seconds.record(begin.elapsed().as_secs_f64());
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::{App, middleware::from_fn, test as calls, web};

    fn id_for(given: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_str(given).unwrap());
        text(&request_id(&headers)).to_owned()
    }

    #[test]
    fn a_fit_request_id_is_kept() {
        assert_eq!(id_for("01J-abc.d:e_f"), "01J-abc.d:e_f");
        for unfit in ["", "a b", "a\"b", "a/b", &"x".repeat(129)] {
            assert_eq!(id_for(unfit).len(), 32, "{unfit}");
            assert_ne!(id_for(unfit), unfit);
        }
    }

    async fn broken() -> &'static str {
        panic!("a secret")
    }

    #[actix_web::test]
    async fn a_panic_is_a_problem_of_its_own_request() {
        let app = App::new()
            .wrap(from_fn(edge))
            .route("/broken", web::get().to(broken))
            .route("/whole", web::get().to(|| async { "fine" }));
        let app = calls::init_service(app).await;
        let request = calls::TestRequest::with_uri("/broken").insert_header((REQUEST_ID, "r1"));
        let error = calls::try_call_service(&app, request.to_request())
            .await
            .unwrap_err();
        let response = error.error_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers().get(REQUEST_ID).unwrap(), "r1");
        let problem = error.as_error::<Problem>().unwrap().to_json();
        assert!(problem.contains("/problems/internal") && !problem.contains("secret"));
        let request = calls::TestRequest::with_uri("/whole").to_request();
        assert_eq!(calls::call_service(&app, request).await.status(), 200);
    }
}
