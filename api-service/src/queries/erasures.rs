//! Removing what is left of a person from tasks and what belongs to them, one batch of tasks at a time.
//!
//! Nothing in the hot path is kept for this: tasks have no index by recipient, so all of them are looked at once.

mod scrub;
mod step;

pub use step::step;

use chrono::{DateTime, Utc};
use diesel::{
    ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult, Queryable,
    RunQueryDsl, Selectable, SelectableHelper,
    sql_types::{BigInt, Integer, Text},
};
use shared::schema::erasures;
use uuid::Uuid;

#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = erasures)]
pub struct Row {
    pub id: Uuid,
    pub address: Option<String>,
    pub keyed: Option<String>,
    pub done: Uuid,
    pub rechecked: bool,
    pub tasks: i64,
    pub created_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

pub fn find(connection: &mut PgConnection, id: Uuid) -> QueryResult<Option<Row>> {
    erasures::table
        .find(id)
        .select(Row::as_select())
        .first(connection)
        .optional()
}

/// Notes that all tasks are to be gone through. `keyed`: what suppressions keep of the address.
pub fn begin(
    connection: &mut PgConnection,
    user: Uuid,
    canonical: &str,
    keyed: &str,
) -> QueryResult<Row> {
    diesel::insert_into(erasures::table)
        .values((
            erasures::id.eq(user),
            erasures::address.eq(canonical),
            erasures::keyed.eq(keyed),
            erasures::done.eq(Uuid::nil()),
        ))
        .returning(Row::as_returning())
        .get_result(connection)
}

/// Suppressions of the address go on under what is kept of it.
pub fn hide_suppressions(
    connection: &mut PgConnection,
    canonical: &str,
    keyed: &str,
) -> QueryResult<()> {
    for statement in [
        "DELETE FROM suppressions AS s WHERE address = $1 AND EXISTS (SELECT 1 FROM suppressions AS other
            WHERE other.address = $2 AND other.category = s.category AND other.purpose = s.purpose)",
        "UPDATE suppressions SET address = $2, detail = NULL, task_id = NULL, updated_at = now() WHERE address = $1",
    ] {
        diesel::sql_query(statement)
            .bind::<Text, _>(canonical)
            .bind::<Text, _>(keyed)
            .execute(connection)?;
    }
    Ok(())
}

/// Deletes a batch of those that were finished so many days ago.
pub fn forget(connection: &mut PgConnection, days: u32, limit: i64) -> QueryResult<usize> {
    diesel::sql_query(
        "DELETE FROM erasures WHERE id IN (
            SELECT id FROM erasures WHERE finished_at < now() - make_interval(days => $1) LIMIT $2)",
    )
    .bind::<Integer, _>(i32::try_from(days).unwrap_or(i32::MAX))
    .bind::<BigInt, _>(limit)
    .execute(connection)
}
