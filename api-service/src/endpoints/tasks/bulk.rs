//! `POST /tasks/cancel` and `POST /tasks/retry`: the same for every task that a filter finds, in small batches, with a
//! dry run that only counts.

use super::{
    filter::TaskFilter,
    list::{decode_cursor, encode_cursor},
    operate::patience,
};
use crate::{
    app::AppState,
    auth::{Caller, Operator},
    endpoints::{
        replays::{
            self, Start,
            canary::{Canary, CanaryRequest},
            resource::ReplayResource,
        },
        request::{JsonBody, parse},
    },
    problem::{Problem, ProblemSchema},
    queries::{
        audit::Deed,
        operate::{self, Chosen, ENDED, LIVE, REPLAYABLE},
        tasks::{self, Filter},
    },
};
use actix_web::{HttpResponse, web::Data};
use serde::{Deserialize, Serialize};
use shared::{fields::FieldError, task::Status};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Tasks changed by one transaction.
const BATCH: usize = 1000;
/// Longer than this no request works; the answer then has a cursor to go on with.
const BUDGET: Duration = Duration::from_secs(20);

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct BulkRequest {
    filter: TaskFilter,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
    /// At most that many tasks; `limits.max_bulk` (100,000 by default) when left out.
    #[schema(minimum = 1)]
    limit: Option<i64>,
    /// `next_cursor` of the answer before, to go on where it ended.
    cursor: Option<String>,
    /// For `retry`: a few first, and the rest at a rate while enough of them succeed.
    canary: Option<CanaryRequest>,
}

#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub struct BulkAnswer {
    dry_run: bool,
    /// Tasks that the filter found.
    matched: usize,
    /// Tasks that were changed; the others had moved on in that moment. 0 in a dry run.
    changed: usize,
    /// Of those, tasks that still run and are told to end (cancel only).
    running: usize,
    /// Not null: there may be more; send the same request with this `cursor`.
    next_cursor: Option<String>,
}

/// Cancels many tasks.
#[utoipa::path(
    post,
    path = "/api/v1/tasks/cancel",
    tag = "Operation",
    operation_id = "cancelTasks",
    summary = "Cancel many tasks",
    description = "Every task that is not final and fits the filter, newest first, as `POST /tasks/{id}/cancel` does. Needs the scope `operate`.",
    request_body = BulkRequest,
    responses(
        (status = 200, description = "How many it was", body = BulkAnswer),
        (status = 422, description = "`invalid-fields`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn cancel(
    state: Data<AppState>,
    Operator(caller): Operator,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    let request: BulkRequest = parse(&body.0)?;
    if request.canary.is_some() {
        let detail = "is for POST /tasks/retry";
        return Err(Problem::fields(vec![FieldError::new("/canary", detail)]));
    }
    let (bulk, _no_canary) = Bulk::of(&request, &state, &LIVE, &LIVE)?;
    bulk.run(&state, &caller, DeedKind::Cancel).await
}

/// Has many tasks run again.
#[utoipa::path(
    post,
    path = "/api/v1/tasks/retry",
    tag = "Operation",
    operation_id = "retryTasks",
    summary = "Run many tasks again",
    description = "Every task that fits the filter, newest first, as `POST /tasks/{id}/retry` does; FAILED ones when the filter names no `status`. With `canary` the answer is a replay that goes on by itself: it runs the newest `first` tasks, waits for their outcomes, and runs the others at the rate while the share of successes holds. It is for tasks that had ended when it began, so none is run twice. Needs the scope `operate`.",
    request_body = BulkRequest,
    responses(
        (status = 200, description = "How many it was, or would be", body = BulkAnswer),
        (status = 202, description = "With `canary`: the replay has begun", body = ReplayResource, headers(("Location" = String, description = "The replay"))),
        (status = 409, description = "With `canary`: `replay-state`, one with the same filter goes on already", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-fields`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn retry(
    state: Data<AppState>,
    Operator(caller): Operator,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    let request: BulkRequest = parse(&body.0)?;
    let possible: &[Status] = match request.canary {
        Some(_) => &ENDED,
        None => &REPLAYABLE,
    };
    let (mut bulk, canary) = Bulk::of(&request, &state, possible, &[Status::Failed])?;
    let Some(canary) = canary.filter(|_| !request.dry_run) else {
        return bulk.run(&state, &caller, DeedKind::Retry).await;
    };
    bulk.dry_run = true;
    let (filter, noted, limit) = (bulk.filter.clone(), bulk.asked.clone(), bulk.limit);
    let counted = bulk.go(&state, &caller, DeedKind::Retry).await?;
    let start = Start {
        filter,
        asked: serde_json::to_value(&request.filter).map_err(Problem::internal)?,
        noted,
        canary,
        limit,
        matched: counted.matched,
        counted: counted.next_cursor.is_none() || counted.matched == limit,
    };
    replays::begin(&state, caller, start).await
}

#[derive(Debug, Clone, Copy)]
enum DeedKind {
    Cancel,
    Retry,
}

struct Bulk {
    filter: Filter,
    /// As it was asked for, for the audit log.
    asked: serde_json::Value,
    dry_run: bool,
    limit: usize,
}

impl Bulk {
    fn of(
        request: &BulkRequest,
        state: &AppState,
        possible: &[Status],
        usual: &[Status],
    ) -> Result<(Self, Option<Canary>), Problem> {
        let limits = &state.config.limits;
        let mut errors = Vec::new();
        let mut filter = request.filter.check(possible, usual, limits, &mut errors);
        let most = limits.max_bulk;
        let limit = request
            .limit
            .map_or(Some(most), |limit| usize::try_from(limit).ok());
        let limit = limit.filter(|limit| (1..=most).contains(limit));
        if limit.is_none() {
            let detail = format!("must be 1 to {most} (limits.max_bulk)");
            errors.push(FieldError::new("/limit", detail));
        }
        if let Some(cursor) = &request.cursor {
            match decode_cursor(cursor) {
                Some(id) => filter.below = filter.below.into_iter().chain([id]).min(),
                None => errors.push(FieldError::new(
                    "/cursor",
                    "must be the next_cursor of an answer",
                )),
            }
        }
        let canary = request
            .canary
            .map(|canary| canary.check(limits, &mut errors));
        if canary.is_some() && request.cursor.is_some() {
            let detail = "does not go with canary, which finds all tasks by itself";
            errors.push(FieldError::new("/cursor", detail));
        }
        if !errors.is_empty() {
            return Err(Problem::fields(errors));
        }
        let bulk = Self {
            filter,
            asked: request.filter.without_texts().map_err(Problem::internal)?,
            dry_run: request.dry_run,
            limit: limit.unwrap_or(most),
        };
        Ok((bulk, canary))
    }

    async fn run(
        self,
        state: &AppState,
        caller: &Caller,
        kind: DeedKind,
    ) -> Result<HttpResponse, Problem> {
        let answer = self.go(state, caller, kind).await?;
        Ok(HttpResponse::Ok().json(answer))
    }

    async fn go(
        mut self,
        state: &AppState,
        caller: &Caller,
        kind: DeedKind,
    ) -> Result<BulkAnswer, Problem> {
        let begin = Instant::now();
        let mut answer = BulkAnswer {
            dry_run: self.dry_run,
            ..BulkAnswer::default()
        };
        loop {
            let wanted = BATCH.min(self.limit - answer.matched);
            let filter = self.filter.clone();
            let page = state
                .pool
                .run(move |connection| tasks::page(connection, &filter, wanted))
                .await;
            let page = match page {
                Ok(page) => page,
                Err(error) => return self.interrupted(answer, error.into()),
            };
            let ids: Vec<Uuid> = page.rows.iter().map(|row| row.id).collect();
            let matched = ids.len();
            if !self.dry_run && matched > 0 {
                match self.carry_out(state, caller, kind, ids).await {
                    Ok((changed, running)) => {
                        answer.changed += changed;
                        answer.running += running;
                    }
                    Err(problem) => return self.interrupted(answer, problem),
                }
            }
            answer.matched += matched;
            let Some(next) = page.next else { break };
            if answer.matched >= self.limit || begin.elapsed() >= BUDGET {
                answer.next_cursor = Some(encode_cursor(next));
                break;
            }
            self.filter.below = Some(next);
        }
        Ok(answer)
    }

    /// What was done is answered, with a cursor to go on; nothing done is the problem itself.
    fn interrupted(&self, mut answer: BulkAnswer, problem: Problem) -> Result<BulkAnswer, Problem> {
        match self.filter.below {
            Some(below) if answer.changed > 0 => {
                tracing::warn!(
                    error = problem.cause(),
                    "a request for many tasks was interrupted after {} of them",
                    answer.changed
                );
                answer.next_cursor = Some(encode_cursor(below));
                Ok(answer)
            }
            _ => Err(problem),
        }
    }

    async fn carry_out(
        &self,
        state: &AppState,
        caller: &Caller,
        kind: DeedKind,
        ids: Vec<Uuid>,
    ) -> Result<(usize, usize), Problem> {
        let (caller, patience, details) = (caller.clone(), patience(state), self.asked.clone());
        let chosen = Chosen {
            ids,
            statuses: self.filter.statuses.clone(),
        };
        let (changed, running, rows) = state
            .pool
            .run(move |connection| {
                let deed = |action| Deed {
                    by: &caller,
                    action,
                    details: Some(details),
                    is_bulk: true,
                };
                match kind {
                    DeedKind::Cancel => {
                        let deed = deed("task.cancel");
                        let cancelled = operate::cancel(connection, &chosen, &deed)?;
                        Ok((cancelled.changed, cancelled.running, Vec::new()))
                    }
                    DeedKind::Retry => {
                        let deed = deed("task.retry");
                        let rows = operate::replay(connection, &chosen, patience, &deed)?;
                        Ok((rows.len(), 0, rows))
                    }
                }
            })
            .await?;
        state.publisher.offer(rows);
        Ok((changed, running))
    }
}
