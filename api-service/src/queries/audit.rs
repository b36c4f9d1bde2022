//! What operators did. Written in the transaction that does it.

use crate::auth::Caller;
use diesel::{ExpressionMethods, PgConnection, QueryResult, RunQueryDsl};
use shared::schema::audit_log::dsl;
use uuid::Uuid;

/// One action of one key.
#[derive(Debug)]
pub struct Entry<'a> {
    pub by: &'a Caller,
    /// E.g. `task.cancel`.
    pub action: &'static str,
    /// None: many tasks at once; `details` says which.
    pub task: Option<Uuid>,
    pub details: Option<serde_json::Value>,
}

pub fn insert(connection: &mut PgConnection, entry: &Entry<'_>) -> QueryResult<usize> {
    diesel::insert_into(dsl::audit_log)
        .values((
            dsl::api_key_id.eq(entry.by.key_id),
            dsl::actor.eq(&*entry.by.name),
            dsl::action.eq(entry.action),
            dsl::task_id.eq(entry.task),
            dsl::details.eq(entry.details.as_ref()),
        ))
        .execute(connection)
}
