//! Tasks whose worker is gone: each gets the next step that its policy asks for, in one transaction with
//! the message that carries it out.

use chrono::{DateTime, Utc};
use diesel::{
    BoolExpressionMethods, Connection, ExpressionMethods, Insertable, NullableExpressionMethods,
    PgConnection, QueryDsl, QueryResult, Queryable, RunQueryDsl, dsl,
};
use shared::{
    outbox::{self, OutboxRow, Route, Subject},
    schema::{task_attempts, tasks, workers},
    task::{Lane, OnWorkerLost, Queue, Status, TaskId},
};
use std::time::Duration;
use uuid::Uuid;

/// The error of an attempt whose worker died.
pub const WORKER_LOST: &str = "worker_lost";
const MESSAGE: &str = "the worker that ran this attempt stopped responding";
const MESSAGE_OF_UNKNOWN: &str =
    "the worker that ran this attempt stopped responding, and its work may have been done";

#[derive(Queryable)]
struct Stranded {
    id: Uuid,
    kind: String,
    queue: String,
    lane: String,
    attempt: i32,
    max_attempts: i32,
    on_worker_lost: String,
    worker_id: Option<Uuid>,
    started_at: Option<DateTime<Utc>>,
    traceparent: Option<String>,
    cancel_requested_at: Option<DateTime<Utc>>,
    may_have_acted: bool,
}

#[derive(Insertable)]
#[diesel(table_name = task_attempts)]
struct LostAttempt {
    task_id: Uuid,
    attempt: i32,
    outcome: &'static str,
    error_code: &'static str,
    error_message: &'static str,
    worker_id: Option<Uuid>,
    started_at: Option<DateTime<Utc>>,
    ended_at: DateTime<Utc>,
    next_attempt_at: Option<DateTime<Utc>>,
}

/// Rescues up to `limit` tasks that are PROCESSING under no living worker; returns their messages,
/// which are committed, and how many tasks it was.
pub fn rescue(
    connection: &mut PgConnection,
    limit: i64,
    patience: Duration,
) -> QueryResult<(Vec<OutboxRow>, usize)> {
    connection.transaction(|connection| {
        let now: DateTime<Utc> =
            diesel::select(dsl::sql::<diesel::sql_types::Timestamptz>("now()"))
                .get_result(connection)?;
        let stranded = stranded(connection, limit)?;
        let mut messages = Vec::new();
        let mut attempts = Vec::new();
        for task in &stranded {
            let status = next_status(task);
            let message = message(task, status, now, patience);
            let next_attempt_at = (status == Status::Retrying).then_some(now);
            let finished_at = status.is_final().then_some(now);
            let error_message = if status == Status::Unknown {
                MESSAGE_OF_UNKNOWN
            } else {
                MESSAGE
            };
            diesel::update(tasks::table.find(task.id))
                .set((
                    tasks::status.eq(status.as_str()),
                    tasks::error_code.eq(WORKER_LOST),
                    tasks::error_message.eq(error_message),
                    tasks::next_attempt_at.eq(next_attempt_at),
                    tasks::finished_at.eq(finished_at),
                    tasks::updated_at.eq(now),
                ))
                .execute(connection)?;
            messages.extend(message);
            attempts.push(LostAttempt {
                task_id: task.id,
                attempt: task.attempt,
                outcome: WORKER_LOST,
                error_code: WORKER_LOST,
                error_message,
                worker_id: task.worker_id,
                started_at: task.started_at,
                ended_at: now,
                next_attempt_at,
            });
        }
        diesel::insert_into(task_attempts::table)
            .values(&attempts)
            .on_conflict_do_nothing()
            .execute(connection)?;
        outbox::insert(connection, &messages)?;
        Ok((messages, stranded.len()))
    })
}

fn stranded(connection: &mut PgConnection, limit: i64) -> QueryResult<Vec<Stranded>> {
    let living = workers::table
        .filter(workers::state.eq("alive"))
        .select(workers::id.nullable());
    tasks::table
        .filter(tasks::finished_at.is_null())
        .filter(tasks::status.eq(Status::Processing.as_str()))
        .filter(
            tasks::worker_id
                .is_null()
                .or(tasks::worker_id.ne_all(living)),
        )
        .order(tasks::id)
        .limit(limit)
        .select((
            tasks::id,
            tasks::kind,
            tasks::queue,
            tasks::lane,
            tasks::attempt,
            tasks::max_attempts,
            tasks::on_worker_lost,
            tasks::worker_id,
            tasks::started_at,
            tasks::traceparent,
            tasks::cancel_requested_at,
            dsl::sql::<diesel::sql_types::Bool>("tasks.point_of_no_return_at IS NOT NULL"),
        ))
        .for_update()
        .skip_locked()
        .load(connection)
}

fn next_status(task: &Stranded) -> Status {
    match OnWorkerLost::parse(&task.on_worker_lost) {
        Some(OnWorkerLost::Hold) if task.may_have_acted => Status::Unknown,
        _ if task.cancel_requested_at.is_some() => Status::Cancelled,
        // What is to be held and has not acted can't be repeated by another attempt.
        Some(OnWorkerLost::Retry | OnWorkerLost::Hold) if task.attempt < task.max_attempts => {
            Status::Retrying
        }
        Some(_) | None => Status::Failed,
    }
}

fn message(
    task: &Stranded,
    status: Status,
    now: DateTime<Utc>,
    patience: Duration,
) -> Option<OutboxRow> {
    let (route, attempt) = match status {
        Status::Retrying => (Route::Tasks, task.attempt + 1),
        Status::Failed => (Route::Dead, task.attempt),
        _ => return None,
    };
    let subject = Subject {
        task: TaskId(task.id),
        attempt,
        kind: &task.kind,
        queue: Queue::parse(&task.queue).unwrap_or(Queue::Work),
        lane: Lane::parse(&task.lane).unwrap_or(Lane::Normal),
        traceparent: task.traceparent.as_deref(),
    };
    Some(OutboxRow::new(&subject, route, now, patience))
}
