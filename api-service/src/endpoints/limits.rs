//! `/limits`: how much of something all workers together may do. A task over its limit waits in line, without an attempt
//! and without a worker's slot.

use super::{
    request::{JsonBody, parse},
    tasks::resource::Timestamp,
    terms::MAX_LIMIT_KEY,
};
use crate::{
    app::{AppState, Endpoint},
    auth::{Operator, Reader},
    problem::{Problem, ProblemSchema, ProblemType},
    queries::policy::{self, Limit},
};
use actix_web::{
    HttpResponse,
    web::{Data, Path, ServiceConfig},
};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use shared::{fields::FieldError, kinds, limits::Scope, task::Queue};

const HIGHEST_RATE: f64 = 100_000.0;
const MOST: i64 = 1_000_000;
/// The longest that an emptied bucket may take to be full again, in seconds: after it, its state is forgotten.
const LONGEST_FILLING: f64 = 604_800.0;

pub fn configure(app: &mut ServiceConfig) {
    app.service(Endpoint::at("/limits").get(list).build())
        .service(
            Endpoint::at("/limits/{scope}/{name}")
                .put(set)
                .delete(remove)
                .build(),
        );
}

/// What a limit permits; at least one of `rate` and `concurrency`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct NewLimit {
    /// Attempts started per second, over time; 0.1 is one every ten seconds.
    #[schema(exclusive_minimum = 0.0, maximum = 100_000.0, example = 10.0)]
    rate: Option<f64>,
    /// Attempts at once after a quiet time; a second's worth of `rate` when left out.
    #[schema(minimum = 1)]
    burst: Option<i64>,
    /// Attempts running at a time.
    #[schema(minimum = 1, example = 5)]
    concurrency: Option<i64>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Limit)]
pub struct LimitResource {
    /// `queue`, `kind` or `key`.
    #[schema(example = "key")]
    scope: String,
    #[schema(example = "tenant:*")]
    name: String,
    rate: Option<f64>,
    burst: Option<i32>,
    concurrency: Option<i32>,
    /// Tasks that wait for it now.
    waiting: i64,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    updated_at: Timestamp,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Limits {
    limits: Vec<LimitResource>,
}

impl LimitResource {
    fn of(limit: Limit, waiting: i64) -> Self {
        Self {
            scope: limit.scope,
            name: limit.name,
            rate: limit.rate,
            burst: limit.burst,
            concurrency: limit.concurrency,
            waiting,
            updated_at: Timestamp(limit.updated_at),
        }
    }
}

/// All limits.
#[utoipa::path(
    get,
    path = "/api/v1/limits",
    tag = "Operation",
    operation_id = "listLimits",
    summary = "The limits in force",
    description = "Needs the scope `read`.",
    responses((status = 200, description = "The limits, by scope and name", body = Limits))
)]
pub async fn list(state: Data<AppState>, _reader: Reader) -> Result<HttpResponse, Problem> {
    let limits = state.pool.run(policy::limits).await?;
    let limits = limits
        .into_iter()
        .map(|(limit, waiting)| LimitResource::of(limit, waiting))
        .collect();
    Ok(HttpResponse::Ok().json(Limits { limits }))
}

/// Sets a limit.
#[utoipa::path(
    put,
    path = "/api/v1/limits/{scope}/{name}",
    tag = "Operation",
    operation_id = "setLimit",
    summary = "Set a limit",
    description = "In force within two seconds, for all workers together. `scope` is `queue`, `kind`, or `key`: the `limit_key` of tasks. A key may end in `*`; then each key that it covers has such a limit of its own, and of several the longest counts. Needs the scope `operate`.",
    params(
        ("scope" = String, Path, description = "`queue`, `kind` or `key`"),
        ("name" = String, Path, description = "E.g. `mail`, `email.send`, `tenant:acme`, `tenant:*`"),
    ),
    request_body = NewLimit,
    responses(
        (status = 200, description = "The limit was changed", body = LimitResource),
        (status = 201, description = "The limit is new", body = LimitResource),
        (status = 404, description = "`limit-not-found`, `queue-not-found` or `kind-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-fields`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn set(
    state: Data<AppState>,
    Operator(caller): Operator,
    path: Path<(String, String)>,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    let (scope, name) = subject(path.into_inner())?;
    let limit = parse::<NewLimit>(&body.0)?.check(scope, name)?;
    let stored = limit.clone();
    let (is_new, waiting) = state
        .pool
        .run(move |connection| {
            let is_new = policy::set_limit(connection, &stored, &caller)?;
            let all = policy::limits(connection)?;
            let own = all.into_iter().find(|(one, _)| one.is_about(&stored));
            Ok((is_new, own.map_or(0, |(_, waiting)| waiting)))
        })
        .await?;
    let mut answer = if is_new {
        HttpResponse::Created()
    } else {
        HttpResponse::Ok()
    };
    Ok(answer.json(LimitResource::of(limit, waiting)))
}

/// Removes a limit.
#[utoipa::path(
    delete,
    path = "/api/v1/limits/{scope}/{name}",
    tag = "Operation",
    operation_id = "removeLimit",
    summary = "Remove a limit",
    description = "Tasks that wait for it begin to go on within two seconds, a long line some thousands a second. Needs the scope `operate`.",
    params(("scope" = String, Path), ("name" = String, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "`limit-not-found`, `queue-not-found` or `kind-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn remove(
    state: Data<AppState>,
    Operator(caller): Operator,
    path: Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (scope, name) = subject(path.into_inner())?;
    let removed = state
        .pool
        .run(move |connection| policy::remove_limit(connection, scope, &name, &caller))
        .await?;
    if removed {
        return Ok(HttpResponse::NoContent().finish());
    }
    Err(Problem::new(ProblemType::LimitNotFound))
}

/// What the limit is about; 404 for what there is not.
fn subject((scope, name): (String, String)) -> Result<(Scope, String), Problem> {
    let Some(scope) = Scope::parse(&scope) else {
        return Err(Problem::new(ProblemType::LimitNotFound)
            .detail("A limit is about a `queue`, a `kind` or a `key`."));
    };
    match scope {
        Scope::Queue if Queue::parse(&name).is_none() => {
            Err(Problem::new(ProblemType::QueueNotFound))
        }
        Scope::Kind if kinds::find(&name).is_none() => Err(Problem::new(ProblemType::KindNotFound)),
        Scope::Key => {
            let inner = name.strip_suffix('*').unwrap_or(&name);
            let fits = (1..=MAX_LIMIT_KEY).contains(&name.len());
            if !fits || inner.contains('*') || name.chars().any(char::is_control) {
                return Err(Problem::new(ProblemType::LimitNotFound).detail(format!(
                    "A key has 1 to {MAX_LIMIT_KEY} bytes without control characters, and * only at its end."
                )));
            }
            Ok((scope, name))
        }
        Scope::Queue | Scope::Kind => Ok((scope, name)),
    }
}

impl NewLimit {
    fn check(self, scope: Scope, name: String) -> Result<Limit, Problem> {
        let mut errors = Vec::new();
        let mut refuse =
            |pointer: &str, detail: String| errors.push(FieldError::new(pointer, detail));
        if self.rate.is_none() && self.concurrency.is_none() {
            refuse("", "needs rate, concurrency or both".into());
        }
        if self
            .rate
            .is_some_and(|rate| !(rate > 0.0 && rate <= HIGHEST_RATE))
        {
            refuse(
                "/rate",
                format!("must be more than 0 and at most {HIGHEST_RATE} a second"),
            );
        }
        let mut count = |pointer: &str, asked: Option<i64>| {
            let asked = asked?;
            let count = i32::try_from(asked)
                .ok()
                .filter(|_| (1..=MOST).contains(&asked));
            if count.is_none() {
                refuse(pointer, format!("must be 1 to {MOST}"));
            }
            count
        };
        let burst = count("/burst", self.burst);
        let concurrency = count("/concurrency", self.concurrency);
        if burst.is_some() && self.rate.is_none() {
            refuse("/burst", "needs a rate".into());
        }
        if let Some(rate) = self.rate.filter(|rate| *rate > 0.0)
            && f64::from(burst.unwrap_or(1)) / rate > LONGEST_FILLING
        {
            refuse(
                "/rate",
                "must be enough to fill the burst again within seven days".into(),
            );
        }
        if errors.is_empty() {
            return Ok(Limit {
                scope: scope.as_str().to_owned(),
                name,
                rate: self.rate,
                burst,
                concurrency,
                updated_at: Utc::now(),
            });
        }
        Err(Problem::fields(errors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(rate: Option<f64>, burst: Option<i64>, concurrency: Option<i64>) -> Vec<String> {
        let limit = NewLimit {
            rate,
            burst,
            concurrency,
        };
        match limit.check(Scope::Key, "tenant:*".into()) {
            Ok(_) => Vec::new(),
            Err(problem) => problem
                .errors()
                .iter()
                .filter_map(|flaw| flaw.pointer.clone())
                .collect(),
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        assert!(places(Some(0.5), Some(10), Some(3)).is_empty());
        assert!(places(None, None, Some(1)).is_empty());
        assert_eq!(places(None, None, None), [""]);
        assert_eq!(places(Some(f64::NAN), None, None), ["/rate"]);
        assert_eq!(
            places(Some(-1.0), Some(0), Some(1_000_001)),
            ["/rate", "/burst", "/concurrency"]
        );
        assert_eq!(places(None, Some(2), Some(1)), ["/burst"]);
        assert_eq!(places(Some(0.001), Some(1000), None), ["/rate"]);
    }

    #[test]
    fn a_limit_is_about_something_that_there_is() {
        let of = |scope: &str, name: &str| {
            subject((scope.into(), name.into())).map_err(|problem| problem.kind)
        };
        assert!(
            of("queue", "mail").is_ok()
                && of("kind", "email.send").is_ok()
                && of("key", "tenant:*").is_ok()
        );
        assert_eq!(of("queue", "nope"), Err(ProblemType::QueueNotFound));
        assert_eq!(of("kind", "nope"), Err(ProblemType::KindNotFound));
        for (scope, name) in [("key", "a*b"), ("key", "**"), ("task", "x")] {
            assert_eq!(of(scope, name), Err(ProblemType::LimitNotFound));
        }
    }
}
