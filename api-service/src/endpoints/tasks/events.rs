//! `GET /tasks/{id}/events`: follows a task as it runs, as a stream of server-sent events.

mod follow;
mod position;
mod wire;

pub use wire::{OutputEvent, RestartEvent, StateEvent};

use super::operate::task_id;
use crate::{
    app::AppState,
    auth::{self, Reader},
    endpoints::request::{bad_parameter, parameters, unknown_parameter},
    problem::{Flaw, Problem, ProblemSchema, ProblemType},
    queries::watch,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, header},
    web::{Data, Path},
};
use follow::{Follow, Place};
use position::Position;
use std::sync::Arc;

const LAST_EVENT_ID: &str = "last-event-id";
const NOT_AN_ID: &str =
    "must be the id of an event of this endpoint, as it was received; leave it out to begin anew";

/// Follows a task.
#[utoipa::path(
    get,
    path = "/api/v1/tasks/{id}/events",
    tag = "Tasks",
    operation_id = "followTask",
    summary = "Follow a task",
    description = "A stream of server-sent events, data in JSON:\n\n\
        - `state` (`StateEvent`): where the task stands, at the beginning and whenever that changes.\n\
        - `progress` (`Progress`): how far the running attempt is, the latest word.\n\
        - `output` (`OutputEvent`): a piece of what its handler puts out, each once and in order.\n\
        - `restart` (`RestartEvent`): another attempt puts out anew; what came before belongs to one that did not succeed.\n\
        - `end` (`Task`): the task is final, and the stream ends.\n\n\
        Each has an `id`. A stream that breaks off, as when a replica stops, goes on at any replica after the event named by `Last-Event-ID`, with nothing lost and nothing twice; EventSource clients do so by themselves, and one that has had the `end` gets 204. One that comes later gets the output there is, and the end at once. Comments are sent while there is nothing to say (`http.stream_heartbeat_s`). Needs the scope `read`.",
    params(
        ("id" = uuid::Uuid, Path, description = "The task's id"),
        ("last_event_id" = Option<String>, Query, description = "As `Last-Event-ID`, for clients that can't set a header; the header counts"),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event received"),
    ),
    responses(
        (status = 200, description = "The stream", body = String, content_type = "text/event-stream"),
        (status = 204, description = "The event named was the end"),
        (status = 400, description = "`invalid-header` or `invalid-parameters`: there is no such event id", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "`task-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "`too-many-streams` or `database-unavailable`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn follow(
    state: Data<AppState>,
    _reader: Reader,
    id: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let told = last_event(&request)?;
    let id = task_id(&id)?.0;
    let key = auth::key_hash(&request)?;
    let place = Arc::clone(&state.streams)
        .try_acquire_owned()
        .map(Place::new)
        .map_err(|_| Problem::new(ProblemType::TooManyStreams))?;
    let look = state
        .pool
        .run(move |connection| watch::look(connection, vec![id]))
        .await?
        .pop()
        .ok_or_else(|| Problem::new(ProblemType::TaskNotFound))?;
    let follow = Follow::new(state, key, told, look, place);
    if follow.has_ended() {
        return Ok(HttpResponse::NoContent().finish());
    }
    let mut response = HttpResponse::Ok();
    response
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // nginx would gather them.
        .insert_header(("x-accel-buffering", "no"));
    if *request.method() == Method::HEAD {
        return Ok(response.finish());
    }
    Ok(response.streaming(follow.into_stream()))
}

/// Where the client stands; at the beginning, if it does not say.
fn last_event(request: &HttpRequest) -> Result<Position, Problem> {
    let mut told = Position::default();
    for (name, value) in parameters(request) {
        if name != "last_event_id" {
            let flaw = unknown_parameter(&name, &["last_event_id"]);
            return Err(Problem::flaws(ProblemType::InvalidParameters, vec![flaw]));
        }
        told = value
            .parse()
            .map_err(|()| bad_parameter("last_event_id", NOT_AN_ID))?;
    }
    // EventSource sends it empty where it has none.
    let header = request.headers().get(LAST_EVENT_ID);
    if let Some(header) = header.filter(|header| !header.is_empty()) {
        let position = header.to_str().ok().and_then(|text| text.parse().ok());
        told = position.ok_or_else(|| {
            let flaw = Flaw::header(LAST_EVENT_ID, NOT_AN_ID);
            Problem::flaws(ProblemType::InvalidHeader, vec![flaw])
        })?;
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn the_last_event_is_named_by_header_or_query() {
        let of = |query: &str, header: &'static str| {
            let request = TestRequest::with_uri(&format!("/x?{query}"))
                .insert_header((LAST_EVENT_ID, header))
                .to_http_request();
            last_event(&request)
                .map(|told| told.to_string())
                .map_err(|problem| problem.kind)
        };
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(of("", ""), ok("0.0.0.0"));
        assert_eq!(of("last_event_id=1.2.a.0", ""), ok("1.2.a.0"));
        assert_eq!(of("last_event_id=1.2.a.0", "1.3.a.0"), ok("1.3.a.0"));
        for (query, header, kind) in [
            ("last_event_id=7", "", ProblemType::InvalidParameters),
            ("since=7", "", ProblemType::InvalidParameters),
            ("", "7", ProblemType::InvalidHeader),
        ] {
            assert_eq!(of(query, header), Err(kind));
        }
    }
}
