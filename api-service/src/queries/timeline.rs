//! What is on record of a task's life, for people.

use chrono::{DateTime, Utc};
use diesel::{
    ExpressionMethods, JoinOnDsl, NullableExpressionMethods, OptionalExtension, PgConnection,
    QueryDsl, QueryResult, Queryable, RunQueryDsl,
};
use shared::schema::{audit_log, task_attempts, tasks, workers};
use uuid::Uuid;

/// The present state.
#[derive(Debug, Queryable)]
pub struct Present {
    pub status: String,
    pub attempt: i32,
    pub created_at: DateTime<Utc>,
    pub run_at: Option<DateTime<Utc>>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    /// Who runs it or ran it last.
    pub worker: Option<String>,
}

/// An attempt that did not succeed.
#[derive(Debug, Queryable)]
pub struct Attempt {
    pub attempt: i32,
    pub outcome: String,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: DateTime<Utc>,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub worker: Option<String>,
}

/// What an operator did to it.
#[derive(Debug, Queryable)]
pub struct Deed {
    pub at: DateTime<Utc>,
    pub actor: String,
    pub action: String,
}

#[derive(Debug)]
pub struct Timeline {
    pub present: Present,
    pub attempts: Vec<Attempt>,
    pub deeds: Vec<Deed>,
}

/// The newest `limit` attempts and deeds of a task; none when there is no such task.
pub fn timeline(
    connection: &mut PgConnection,
    id: Uuid,
    limit: i64,
) -> QueryResult<Option<Timeline>> {
    let present = tasks::table
        .left_join(workers::table.on(workers::id.nullable().eq(tasks::worker_id)))
        .filter(tasks::id.eq(id))
        .select((
            tasks::status,
            tasks::attempt,
            tasks::created_at,
            tasks::run_at,
            tasks::started_at,
            tasks::finished_at,
            tasks::error_code,
            tasks::error_message,
            workers::name.nullable(),
        ))
        .first(connection)
        .optional()?;
    let Some(present) = present else {
        return Ok(None);
    };
    let attempts = task_attempts::table
        .left_join(workers::table.on(workers::id.nullable().eq(task_attempts::worker_id)))
        .filter(task_attempts::task_id.eq(id))
        .order(task_attempts::attempt.desc())
        .limit(limit)
        .select((
            task_attempts::attempt,
            task_attempts::outcome,
            task_attempts::error_code,
            task_attempts::error_message,
            task_attempts::started_at,
            task_attempts::ended_at,
            task_attempts::next_attempt_at,
            workers::name.nullable(),
        ))
        .load(connection)?;
    let deeds = audit_log::table
        .filter(audit_log::task_id.eq(id))
        .order(audit_log::at.desc())
        .limit(limit)
        .select((audit_log::at, audit_log::actor, audit_log::action))
        .load(connection)?;
    Ok(Some(Timeline {
        present,
        attempts,
        deeds,
    }))
}
