//! `POST /tasks`.

use super::resource::TaskResource;
use crate::{
    app::AppState,
    auth::{Caller, Submitter},
    endpoints::{
        kinds::is_known,
        request::{JsonBody, is_object, parse, traceparent},
        submit::{IdempotencyKey, refusal, submit},
        terms::{Asked, Time},
    },
    intake::{Answer, NewTask, TimeLimits},
    problem::{Problem, ProblemSchema},
};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use chrono::{SubsecRound, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use shared::{
    fields::FieldError,
    kinds::{self, Accepted, KINDS, KindInfo},
    task::{OnWorkerLost, Queue, TaskId},
};

/// A task to be done.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = NewTask)]
pub struct TaskRequest<'a> {
    /// What to do.
    #[schema(required = true, nullable = false, example = "email.send")]
    kind: Option<String>,
    /// What the kind needs to know; its form is the kind's.
    #[serde(borrow)]
    #[schema(value_type = Object, required = true, nullable = false, example = json!({"to": "ada@example.com", "subject": "Hello", "text": "Hello Ada"}))]
    payload: Option<&'a RawValue>,
    /// 0 (lowest) to 9 (highest); 5 when left out.
    #[schema(minimum = 0, maximum = 9)]
    priority: Option<i64>,
    /// The kind's own queue when left out.
    queue: Option<Queue>,
    /// Not before then (RFC 3339 with any offset); now when left out or past.
    #[schema(value_type = Option<DateTime<Utc>>)]
    run_at: Option<Time>,
    /// Not before so many seconds from now; instead of `run_at`.
    #[schema(minimum = 0)]
    delay: Option<i64>,
    /// A task that no worker has started by then becomes EXPIRED.
    #[schema(value_type = Option<DateTime<Utc>>)]
    useful_until: Option<Time>,
    /// Attempts in all; the kind's policy when left out.
    #[schema(minimum = 1)]
    max_attempts: Option<i64>,
    /// Seconds after which the handler is told to hurry; the kind's policy when left out.
    #[schema(minimum = 1)]
    soft_time_limit_s: Option<i64>,
    /// Seconds after which an attempt has failed; the kind's policy when left out (300 for most).
    #[schema(minimum = 1)]
    hard_time_limit_s: Option<i64>,
    /// Short texts to find the task by.
    tags: Option<Vec<String>>,
    /// Whose shared limits it counts against, e.g. `tenant:acme`; see `PUT /limits`.
    #[schema(max_length = 200)]
    limit_key: Option<String>,
    /// Seconds after its end until its result is removed; when left out, as `retention.result_hours` says, or with the task.
    #[schema(minimum = 0)]
    result_ttl: Option<i64>,
    /// What to do when the worker dies, or has to stop, while running it: `retry` (when left out; its work may be done
    /// twice), `fail`, or `hold`. With `hold` the moment is on record from which its work may have been done (of a mail:
    /// right before it is sent; of most kinds: when a worker claims it). After that the task becomes UNKNOWN and waits for
    /// a person to resolve it, before it is tried again; so its work is never repeated unasked.
    on_worker_lost: Option<OnWorkerLost>,
}

/// Accepts a task.
#[utoipa::path(
    post,
    path = "/api/v1/tasks",
    tag = "Tasks",
    operation_id = "createTask",
    summary = "Accept a task",
    description = "202 means: committed to disk. The task will be run even if every process dies in the next moment.",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters. The same key with the same body gets the first answer again, with the header `Idempotency-Replayed: true`.")),
    request_body = TaskRequest<'_>,
    responses(
        (status = 202, description = "Accepted", body = TaskResource<'_>, headers(
            ("Location" = String, description = "The task"),
            ("Idempotency-Replayed" = String, description = "`true`: this is the answer to an earlier request"),
        )),
        (status = 422, description = "`invalid-fields`, `unknown-kind` or `idempotency-key-reused`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "`overloaded` or `stopping`: nothing was stored. `database-unavailable`: it may have been stored; repeat it under its Idempotency-Key", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn create(
    state: Data<AppState>,
    Submitter(caller): Submitter,
    request: HttpRequest,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    let idempotency = IdempotencyKey::of(&request, &caller, &body)?;
    let mut task = match accept(&state, &caller, &body.0) {
        Ok(task) => task,
        Err(refusal) => return IdempotencyKey::earlier_or(idempotency, &state, refusal).await,
    };
    task.traceparent = traceparent(&request);
    let resource = TaskResource::from(&task);
    let answer = Answer {
        status: 202,
        location: Some(resource.links.this.clone()),
        body: serde_json::to_string(&resource).map_err(Problem::internal)?,
    };
    submit(&state, &caller, idempotency, vec![task], answer).await
}

fn accept(state: &AppState, caller: &Caller, body: &[u8]) -> Result<NewTask, Problem> {
    let asked = parse::<TaskRequest<'_>>(body)
        .map_err(|problem| generation(state, body).unwrap_or(problem))?;
    // As precise as PostgreSQL, so that this answer and a later one agree.
    let now = Utc::now().trunc_subsecs(6);
    let mut errors = Vec::new();
    let Some(name) = &asked.kind else {
        let detail = format!("is needed: one of {}", known(state).join(", "));
        return Err(Problem::fields(vec![FieldError::new("/kind", detail)]));
    };
    let kind = find(state, name)?;
    let payload = payload(kind, asked.payload, state, &mut errors);
    let terms = Asked {
        priority: asked.priority.or(payload.terms.priority.map(i64::from)),
        run_at: asked.run_at,
        delay: asked.delay,
        useful_until: asked.useful_until,
        tags: asked.tags.unwrap_or_default(),
        limit_key: asked.limit_key,
        result_ttl: asked.result_ttl,
    }
    .check(&state.config.limits, now, &mut errors);
    let max_attempts = max_attempts(asked.max_attempts, kind, state, &mut errors);
    let time_limits = TimeLimits::of(
        asked.soft_time_limit_s,
        asked.hard_time_limit_s,
        kind,
        state.config.limits.max_time_limit_s,
        &mut errors,
    );
    if !errors.is_empty() {
        return Err(refusal(state, errors));
    }
    Ok(NewTask {
        id: TaskId::now(),
        kind,
        queue: asked.queue.unwrap_or(kind.queue),
        priority: terms.priority,
        payload: payload.json,
        content_ttl_s: payload.terms.content_ttl_s,
        files: Vec::new(),
        refusal: None,
        max_attempts,
        time_limits,
        on_worker_lost: asked.on_worker_lost.unwrap_or(OnWorkerLost::Retry),
        tags: terms.tags,
        limit_key: terms.limit_key,
        result_ttl_s: terms.result_ttl_s,
        run_at: terms.run_at,
        useful_until: terms.useful_until,
        created_at: now,
        created_by: caller.key_id,
        traceparent: None,
    })
}

fn payload(
    kind: &KindInfo,
    asked: Option<&RawValue>,
    state: &AppState,
    errors: &mut Vec<FieldError>,
) -> Accepted {
    let Some(asked) = asked else {
        errors.push(FieldError::new(
            "/payload",
            "is needed; {} if there is nothing to say",
        ));
        return Accepted::default();
    };
    if !is_object(asked.get().as_bytes()) {
        errors.push(FieldError::new("/payload", "must be an object"));
        return Accepted::default();
    }
    (kind.accept)(asked.get().as_bytes(), &state.defaults).unwrap_or_else(|wrong| {
        errors.extend(wrong.into_iter().map(|error| error.below("/payload")));
        Accepted::default()
    })
}

fn max_attempts(
    asked: Option<i64>,
    kind: &KindInfo,
    state: &AppState,
    errors: &mut Vec<FieldError>,
) -> u16 {
    let most = state.config.limits.max_attempts;
    let Some(asked) = asked else {
        return kind.backoff.max_attempts;
    };
    match u16::try_from(asked) {
        Ok(attempts) if (1..=most).contains(&attempts) => attempts,
        _ => {
            errors.push(FieldError::new(
                "/max_attempts",
                format!("must be 1 to {most} (limits.max_attempts)"),
            ));
            0
        }
    }
}

fn known(state: &AppState) -> Vec<&'static str> {
    KINDS
        .iter()
        .filter(|kind| is_known(kind, state) && !kind.internal)
        .map(|kind| kind.name)
        .collect()
}

fn find(state: &AppState, name: &str) -> Result<&'static KindInfo, Problem> {
    kinds::find(name)
        .filter(|kind| is_known(kind, state))
        .ok_or_else(|| unknown_kind(state, "No kind of task has this name."))
}

fn unknown_kind(state: &AppState, detail: &str) -> Problem {
    let known_kinds = known(state);
    let detail = format!("{detail} Known kinds: {}.", known_kinds.join(", "));
    Problem::unknown_kind(known_kinds).detail(detail)
}

/// A body with `prompt` and no `kind` asks for text, which no kind here makes.
fn generation(state: &AppState, body: &[u8]) -> Option<Problem> {
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(borrow)]
        prompt: Option<&'a RawValue>,
        #[serde(borrow)]
        kind: Option<&'a RawValue>,
    }
    let shape: Shape<'_> = serde_json::from_slice(body).ok()?;
    (shape.prompt.is_some() && shape.kind.is_none()).then(|| {
        unknown_kind(
            state,
            "A body with `prompt` and no `kind` asks for generated text, and this service has no kind for that.",
        )
    })
}
