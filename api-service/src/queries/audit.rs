//! What operators did. Written in the transaction that does it.

use crate::auth::Caller;
use diesel::{
    Insertable, PgConnection, QueryResult, RunQueryDsl,
    sql_types::{BigInt, Integer},
};
use serde_json::json;
use shared::schema::audit_log;
use uuid::Uuid;

/// Something that one key did to some tasks.
#[derive(Debug)]
pub struct Deed<'a> {
    pub by: &'a Caller,
    /// E.g. `task.cancel`.
    pub action: &'static str,
    /// What the request said, without callers' own texts.
    pub details: Option<serde_json::Value>,
    /// By filter: `details` stand in a line of their own, with the count.
    pub is_bulk: bool,
}

/// Who did something that is not about one task.
#[derive(Debug, Clone, Copy)]
pub enum Actor<'a> {
    Key {
        id: Uuid,
        name: &'a str,
    },
    /// Whoever can reach the database.
    CommandLine,
    /// Warren, by itself.
    Service,
}

impl<'a> Actor<'a> {
    pub fn key(caller: &'a Caller) -> Self {
        Self::Key {
            id: caller.key_id,
            name: &caller.name,
        }
    }
}

#[derive(Insertable)]
#[diesel(table_name = audit_log)]
struct Line<'a> {
    /// None: the command line, or Warren by itself.
    api_key_id: Option<Uuid>,
    actor: &'a str,
    action: &'static str,
    task_id: Option<Uuid>,
    details: Option<serde_json::Value>,
}

/// A line for each task that was changed, so that it is found by the task.
pub fn note(connection: &mut PgConnection, deed: &Deed<'_>, changed: &[Uuid]) -> QueryResult<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let line = |task_id, details| Line {
        api_key_id: Some(deed.by.key_id),
        actor: &deed.by.name,
        action: deed.action,
        task_id,
        details,
    };
    let own = |_| (!deed.is_bulk).then(|| deed.details.clone()).flatten();
    let mut lines: Vec<_> = changed.iter().map(|id| line(Some(*id), own(id))).collect();
    if deed.is_bulk {
        let details = json!({"request": deed.details, "changed": changed.len()});
        lines.push(line(None, Some(details)));
    }
    diesel::insert_into(audit_log::table)
        .values(lines)
        .execute(connection)
        .map(|_| ())
}

/// A line about something else than tasks.
pub fn note_other(
    connection: &mut PgConnection,
    actor: Actor<'_>,
    action: &'static str,
    details: serde_json::Value,
) -> QueryResult<()> {
    let (api_key_id, actor) = match actor {
        Actor::Key { id, name } => (Some(id), name),
        Actor::CommandLine => (None, "command line"),
        Actor::Service => (None, "warren"),
    };
    diesel::insert_into(audit_log::table)
        .values(Line {
            api_key_id,
            actor,
            action,
            task_id: None,
            details: Some(details),
        })
        .execute(connection)
        .map(|_| ())
}

/// Deletes one batch of lines older than that.
pub fn forget(connection: &mut PgConnection, days: u32, limit: i64) -> QueryResult<usize> {
    diesel::sql_query(
        "DELETE FROM audit_log WHERE id IN (
            SELECT id FROM audit_log WHERE at < now() - make_interval(days => $1) ORDER BY at LIMIT $2)",
    )
    .bind::<Integer, _>(i32::try_from(days).unwrap_or(i32::MAX))
    .bind::<BigInt, _>(limit)
    .execute(connection)
}
