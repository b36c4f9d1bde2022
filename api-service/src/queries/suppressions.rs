//! Suppressions as operators see them.

use super::audit::{self, Actor};
use crate::auth::Caller;
use chrono::{DateTime, Utc};
use diesel::{
    Connection, ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult,
    Queryable, RunQueryDsl, Selectable, SelectableHelper, sql_types::BigInt,
};
use serde_json::json;
use shared::{
    schema::suppressions,
    suppression::rows::{self, New},
};
use uuid::Uuid;

#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = suppressions)]
pub struct Row {
    pub id: Uuid,
    pub address: String,
    pub category: String,
    pub purpose: String,
    pub reason: String,
    pub detail: Option<String>,
    pub task_id: Option<Uuid>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub created_by: String,
}

/// Which are listed; what is none does not matter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// An address in all its forms.
    pub forms: Option<Vec<String>>,
    pub category: Option<String>,
    pub reason: Option<String>,
}

/// The newest first, those below an id.
pub fn list(
    connection: &mut PgConnection,
    filter: &Filter,
    below: Option<Uuid>,
    limit: i64,
) -> QueryResult<Vec<Row>> {
    let mut query = suppressions::table.into_boxed();
    if let Some(forms) = &filter.forms {
        query = query.filter(suppressions::address.eq_any(forms));
    }
    if let Some(category) = &filter.category {
        query = query.filter(suppressions::category.eq(category));
    }
    if let Some(reason) = &filter.reason {
        query = query.filter(suppressions::reason.eq(reason));
    }
    if let Some(below) = below {
        query = query.filter(suppressions::id.lt(below));
    }
    query
        .order(suppressions::id.desc())
        .limit(limit)
        .select(Row::as_select())
        .load(connection)
}

pub fn find(connection: &mut PgConnection, id: Uuid) -> QueryResult<Option<Row>> {
    suppressions::table
        .find(id)
        .select(Row::as_select())
        .first(connection)
        .optional()
}

/// Stores one on behalf of an operator; returns it, and whether it is new.
pub fn put(connection: &mut PgConnection, new: &New, by: &Caller) -> QueryResult<(Row, bool)> {
    connection.transaction(|connection| {
        let stored = rows::add(connection, std::slice::from_ref(new))?;
        let (id, is_new) = stored.first().ok_or(diesel::result::Error::NotFound)?;
        let row = find(connection, *id)?.ok_or(diesel::result::Error::NotFound)?;
        // Without the address: the log outlives it.
        let details = json!({"suppression": id, "category": row.category, "reason": row.reason});
        audit::note_other(connection, Actor::key(by), "suppression.put", details)?;
        Ok((row, *is_new))
    })
}

/// Stores many; returns how many of them are new.
pub fn import(connection: &mut PgConnection, new: &[New]) -> QueryResult<usize> {
    let stored = rows::add(connection, new)?;
    let mut ids: Vec<_> = stored.into_iter().filter(|(_, is_new)| *is_new).collect();
    ids.dedup();
    Ok(ids.len())
}

/// Notes an import by an operator.
pub fn note_import(connection: &mut PgConnection, stored: usize, by: &Caller) -> QueryResult<()> {
    let details = json!({"stored": stored});
    audit::note_other(connection, Actor::key(by), "suppression.import", details)
}

/// False: there is none such.
pub fn delete(connection: &mut PgConnection, id: Uuid, by: &Caller) -> QueryResult<bool> {
    connection.transaction(|connection| {
        let deleted = diesel::delete(suppressions::table.find(id)).execute(connection)?;
        if deleted > 0 {
            let details = json!({"suppression": id});
            audit::note_other(connection, Actor::key(by), "suppression.delete", details)?;
        }
        Ok(deleted > 0)
    })
}

/// Deletes one batch of those whose time is over.
pub fn forget_expired(connection: &mut PgConnection, limit: i64) -> QueryResult<usize> {
    diesel::sql_query(
        "DELETE FROM suppressions WHERE id IN (
            SELECT id FROM suppressions WHERE expires_at < now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)",
    )
    .bind::<BigInt, _>(limit)
    .execute(connection)
}
