//! Mails: the tasks of one mail's copies, and what was heard of them.

use super::tasks::JsonText;
use chrono::{DateTime, Utc};
use diesel::{
    ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult, Queryable,
    RunQueryDsl,
    sql_types::{Text, Uuid as SqlUuid},
};
use shared::{
    kinds::{EmailCode, EmailSend, Kind as _},
    schema::{email_events, task_attempts, tasks},
};
use uuid::Uuid;

/// The kind whose tasks are the copies of mails.
const MAIL: &str = EmailSend::NAME;
/// The kinds whose tasks are sent to one recipient, whom their payloads name.
const SENT: [&str; 2] = [EmailSend::NAME, EmailCode::NAME];

/// The task of a copy.
#[derive(Debug, Queryable)]
pub struct Copy {
    pub id: Uuid,
    pub status: String,
    pub payload: JsonText,
    pub result: Option<JsonText>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub attempt: i32,
    pub tags: Vec<String>,
    pub run_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub next_attempt_at: Option<DateTime<Utc>>,
}

/// An attempt that did not succeed.
#[derive(Debug, Queryable)]
pub struct Attempt {
    pub task_id: Uuid,
    pub outcome: String,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub ended_at: DateTime<Utc>,
}

/// What was heard after the relay had taken it.
#[derive(Debug, Clone, Queryable)]
pub struct Event {
    pub task_id: Uuid,
    pub event: String,
    pub code: String,
    pub detail: Option<String>,
    pub at: DateTime<Utc>,
}

/// A mail in all its copies, each list in the order of time or of the copies.
#[derive(Debug)]
pub struct Mail {
    pub copies: Vec<Copy>,
    pub attempts: Vec<Attempt>,
    pub events: Vec<Event>,
}

/// Those with ids in that range.
pub fn find(connection: &mut PgConnection, first: Uuid, last: Uuid) -> QueryResult<Mail> {
    let copies: Vec<Copy> = tasks::table
        .filter(tasks::id.between(first, last))
        .filter(tasks::kind.eq(MAIL))
        .order(tasks::id)
        .select((
            tasks::id,
            tasks::status,
            tasks::payload,
            tasks::result,
            tasks::error_code,
            tasks::error_message,
            tasks::attempt,
            tasks::tags,
            tasks::run_at,
            tasks::created_at,
            tasks::started_at,
            tasks::finished_at,
            tasks::next_attempt_at,
        ))
        .load(connection)?;
    let attempts = task_attempts::table
        .filter(task_attempts::task_id.between(first, last))
        .order((task_attempts::task_id, task_attempts::attempt))
        .select((
            task_attempts::task_id,
            task_attempts::outcome,
            task_attempts::error_code,
            task_attempts::error_message,
            task_attempts::ended_at,
        ))
        .load(connection)?;
    let events = email_events::table
        .filter(email_events::task_id.between(first, last))
        .order((email_events::task_id, email_events::at))
        .select((
            email_events::task_id,
            email_events::event,
            email_events::code,
            email_events::detail,
            email_events::at,
        ))
        .load(connection)?;
    Ok(Mail {
        copies,
        attempts,
        events,
    })
}

/// The payload of one mail; none: there is no such task, or it is no mail.
pub fn payload(connection: &mut PgConnection, id: Uuid) -> QueryResult<Option<String>> {
    let payload: Option<JsonText> = tasks::table
        .find(id)
        .filter(tasks::kind.eq_any(SENT))
        .select(tasks::payload)
        .first(connection)
        .optional()?;
    Ok(payload.map(|json| json.0))
}

/// Notes what was heard; a repeat changes nothing.
pub fn note(
    connection: &mut PgConnection,
    task: Uuid,
    event: &str,
    code: &str,
    detail: &str,
) -> QueryResult<()> {
    diesel::sql_query(
        "INSERT INTO email_events (task_id, event, code, detail)
         SELECT $1, $2, $3, $4 WHERE EXISTS (SELECT 1 FROM tasks WHERE id = $1)
         ON CONFLICT DO NOTHING",
    )
    .bind::<SqlUuid, _>(task)
    .bind::<Text, _>(event)
    .bind::<Text, _>(code)
    .bind::<Text, _>(detail)
    .execute(connection)
    .map(|_| ())
}
