//! What is on record of a task's life, for people.

use super::tasks::JsonText;
use chrono::{DateTime, Utc};
use diesel::{
    ExpressionMethods, JoinOnDsl, NullableExpressionMethods, OptionalExtension, PgConnection,
    QueryDsl, QueryResult, Queryable, QueryableByName, RunQueryDsl,
    sql_types::{BigInt, Bool, Integer, Nullable, Timestamptz, Uuid as SqlUuid},
};
use shared::{
    schema::{audit_log, outbox, task_attempts, tasks, workers},
    task::Status,
};
use uuid::Uuid;

/// Unconfirmed messages that are searched for one. Almost always there are next to none.
const SEARCHED: i64 = 100_000;

/// The present state.
#[derive(Debug, Queryable)]
pub struct Present {
    pub status: String,
    pub attempt: i32,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub run_at: Option<DateTime<Utc>>,
    /// Set while PostgreSQL keeps it until then.
    pub due_at: Option<DateTime<Utc>>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub progress: Option<JsonText>,
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

/// What an attempt has put out.
#[derive(Debug, QueryableByName)]
pub struct Output {
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    #[diesel(sql_type = BigInt)]
    pub chunks: i64,
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
    /// More was put out, and is not kept.
    #[diesel(sql_type = Bool)]
    pub truncated: bool,
    /// When the latest was written.
    #[diesel(sql_type = Timestamptz)]
    pub at: DateTime<Utc>,
}

/// The message that a waiting task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    Confirmed,
    /// It is in the outbox; how often the relay has taken it up.
    Unconfirmed(i32),
    /// There are so many in the outbox that it could not be found out.
    Unknown,
}

#[derive(Debug)]
pub struct Timeline {
    pub present: Present,
    pub attempts: Vec<Attempt>,
    pub deeds: Vec<Deed>,
    pub outputs: Vec<Output>,
    /// None while no worker is to come for the task.
    pub message: Option<Message>,
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
            tasks::updated_at,
            tasks::run_at,
            tasks::due_at,
            tasks::started_at,
            tasks::finished_at,
            tasks::error_code,
            tasks::error_message,
            tasks::progress.nullable(),
            workers::name.nullable(),
        ))
        .first::<Present>(connection)
        .optional()?;
    let Some(present) = present else {
        return Ok(None);
    };
    let message = message(connection, id, &present)?;
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
        outputs: outputs(connection, id, limit)?,
        message,
    }))
}

fn outputs(connection: &mut PgConnection, id: Uuid, limit: i64) -> QueryResult<Vec<Output>> {
    diesel::sql_query(
        "SELECT attempt, count(*) AS chunks, sum(octet_length(text)) AS bytes, bool_or(truncated) AS truncated, max(at) AS at
         FROM task_output WHERE task_id = $1 GROUP BY attempt ORDER BY attempt DESC LIMIT $2",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<BigInt, _>(limit)
    .load(connection)
}

/// Of the attempt that is to come, if the task waits for a worker.
fn message(
    connection: &mut PgConnection,
    id: Uuid,
    present: &Present,
) -> QueryResult<Option<Message>> {
    let waits = matches!(
        Status::parse(&present.status),
        Some(Status::Pending | Status::Retrying)
    );
    if !waits || present.due_at.is_some() {
        return Ok(None);
    }
    let attempt = present.attempt + 1;
    // The message that was accepted with the task has its id.
    let accepted = outbox::table
        .find(id)
        .filter(outbox::attempt.eq(attempt))
        .select(outbox::tries)
        .first(connection)
        .optional()?;
    if let Some(tries) = accepted {
        return Ok(Some(Message::Unconfirmed(tries)));
    }
    let found: Found = diesel::sql_query(
        "SELECT count(*) AS searched, max(tries) FILTER (WHERE task_id = $1 AND attempt = $2) AS tries
         FROM (SELECT task_id, attempt, tries FROM outbox LIMIT $3) AS waiting",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Integer, _>(attempt)
    .bind::<BigInt, _>(SEARCHED)
    .get_result(connection)?;
    Ok(Some(match found.tries {
        Some(tries) => Message::Unconfirmed(tries),
        None if found.searched == SEARCHED => Message::Unknown,
        None => Message::Confirmed,
    }))
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = BigInt)]
    searched: i64,
    #[diesel(sql_type = Nullable<Integer>)]
    tries: Option<i32>,
}
