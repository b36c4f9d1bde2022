//! `GET /tasks/{id}`, with `?wait=` as a long poll.

use super::{operate::task_id, resource::TaskResource};
use crate::{
    app::AppState,
    auth::Reader,
    endpoints::request::{bad_parameter, parameters, unknown_parameter},
    problem::{Problem, ProblemSchema, ProblemType},
    queries::tasks,
    waiters::TooMany,
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use serde_json::value::RawValue;
use shared::{
    category::Category,
    kinds::{EmailSend, Kind as _},
    task::{Status, TaskId},
};
use std::time::Duration;
use uuid::Uuid;

/// A task as it is now, or as it is when it becomes final.
#[utoipa::path(
    get,
    path = "/api/v1/tasks/{id}",
    tag = "Tasks",
    operation_id = "getTask",
    summary = "Look at a task",
    description = "With `wait`, answers when the task is final or after that many seconds, with the task as it is then.",
    params(
        ("id" = Uuid, Path, description = "The task's id"),
        ("wait" = Option<u64>, Query, description = "Seconds to wait for the task to be final; at most http.max_wait_s (60 by default)"),
        ("include" = Option<String>, Query, description = "`payload`: answer the payload too"),
    ),
    responses(
        (status = 200, description = "The task", body = TaskResource<'_>),
        (status = 404, description = "`task-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "`too-many-waiting` or `database-unavailable`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    state: Data<AppState>,
    _reader: Reader,
    id: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let asked = Asked::of(&request, state.config.http.max_wait_s)?;
    let id = task_id(&id)?.0;
    let (mut task, mut is_final) = load(&state, id, asked.with_payload).await?;
    if let Some(longest) = asked.wait
        && !is_final
    {
        state
            .waiters
            .wait(TaskId(id), longest)
            .await
            .map_err(|TooMany| Problem::new(ProblemType::TooManyWaiting))?;
        (task, is_final) = load(&state, id, asked.with_payload).await?;
    }
    tracing::trace!(task.id = %id, task.is_final = is_final, "looked at");
    let body = serde_json::to_string(&task).map_err(Problem::internal)?;
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .body(body))
}

async fn load(
    state: &AppState,
    id: Uuid,
    with_payload: bool,
) -> Result<(TaskResource<'static>, bool), Problem> {
    let found = state
        .pool
        .run(move |connection| {
            if with_payload {
                let found = tasks::find_with_payload(connection, id)?;
                Ok(found.map(|(row, payload)| (row, Some(payload))))
            } else {
                Ok(tasks::find(connection, id)?.map(|row| (row, None)))
            }
        })
        .await?;
    let (row, payload) = found.ok_or_else(|| Problem::new(ProblemType::TaskNotFound))?;
    let is_final = row.status().is_some_and(Status::is_final);
    let mut task = TaskResource::from(row);
    task.payload = payload.and_then(|json| RawValue::from_string(shown(&task.kind, json.0)).ok());
    Ok((task, is_final))
}

/// What a mail of the category `security` says is nobody's business.
fn shown(kind: &str, payload: String) -> String {
    if kind != EmailSend::NAME {
        return payload;
    }
    let mail = serde_json::from_str::<EmailSend>(&payload).ok();
    mail.filter(|mail| mail.category == Category::Security)
        .and_then(|mail| serde_json::to_string(&mail.without_content()).ok())
        .unwrap_or(payload)
}

/// The query of this endpoint.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    wait: Option<Duration>,
    with_payload: bool,
}

impl Asked {
    fn of(request: &HttpRequest, max_wait_s: u64) -> Result<Self, Problem> {
        let mut asked = Self::default();
        for (name, value) in parameters(request) {
            match name.as_str() {
                "wait" => asked.wait = Some(wait(&value, max_wait_s)?),
                "include" if value == "payload" => asked.with_payload = true,
                "include" => return Err(bad_parameter("include", "must be `payload`")),
                other => {
                    let flaw = unknown_parameter(other, &["wait", "include"]);
                    return Err(Problem::flaws(ProblemType::InvalidParameters, vec![flaw]));
                }
            }
        }
        Ok(asked)
    }
}

fn wait(value: &str, max_wait_s: u64) -> Result<Duration, Problem> {
    value
        .parse()
        .ok()
        .filter(|seconds| *seconds <= max_wait_s)
        .map(Duration::from_secs)
        .ok_or_else(|| {
            bad_parameter(
                "wait",
                format!("must be 0 to {max_wait_s} seconds, a whole number (http.max_wait_s)"),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn asked(query: &str) -> Result<Asked, Option<String>> {
        let request = TestRequest::with_uri(&format!("/x?{query}")).to_http_request();
        Asked::of(&request, 60).map_err(|problem| problem.errors()[0].parameter.clone())
    }

    #[test]
    fn queries() {
        assert_eq!(asked(""), Ok(Asked::default()));
        let both = Asked {
            wait: Some(Duration::from_secs(30)),
            with_payload: true,
        };
        assert_eq!(asked("wait=30&include=payload"), Ok(both));
        for (query, named) in [
            ("wait=61", "wait"),
            ("wait=-1", "wait"),
            ("wait=1.5", "wait"),
            ("wait=", "wait"),
            ("include=everything", "include"),
            ("wiat=3", "wiat"),
        ] {
            assert_eq!(asked(query), Err(Some(named.to_owned())), "{query}");
        }
    }
}
