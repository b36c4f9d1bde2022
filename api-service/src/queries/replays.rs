//! Replays and the tasks that they ran again.

mod work;

pub use work::{Progress, due, latest_outcomes, note, put_off, save, settle};

use super::audit::{self, Actor};
use crate::auth::Caller;
use chrono::{DateTime, Utc};
use diesel::{
    Connection, ExpressionMethods, Insertable, OptionalExtension, PgConnection, QueryDsl,
    QueryResult, Queryable, RunQueryDsl, Selectable, SelectableHelper,
    dsl::now,
    result::{DatabaseErrorKind, Error},
    sql_types::{BigInt, Integer},
};
use serde_json::{Value, json};
use shared::schema::{replay_tasks, replays};
use uuid::Uuid;

/// A replay to begin.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = replays)]
pub struct NewReplay {
    pub id: Uuid,
    pub state: &'static str,
    pub asked: Value,
    pub filter: Value,
    pub digest: String,
    pub at_most: i64,
    pub canary: i32,
    pub min_success: f64,
    pub rate_per_s: f64,
    pub timeout_s: i32,
    pub share_of: Option<i32>,
    pub max_waiting: i32,
    pub matched: i64,
    pub counted: bool,
    pub created_by: Uuid,
    pub actor: String,
}

#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = replays)]
pub struct ReplayRow {
    pub id: Uuid,
    pub state: String,
    pub asked: Value,
    pub filter: Value,
    pub at_most: i64,
    pub canary: i32,
    pub min_success: f64,
    pub rate_per_s: f64,
    pub timeout_s: i32,
    pub share_of: Option<i32>,
    pub max_waiting: i32,
    pub matched: i64,
    pub counted: bool,
    pub replayed: i64,
    pub succeeded: i64,
    pub failed: i64,
    pub share: Option<f64>,
    pub below: Option<Uuid>,
    pub paced_at: Option<DateTime<Utc>>,
    pub reason: Option<String>,
    pub created_by: Uuid,
    pub actor: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// Begins a replay; the error is the live one for the same filter, if there is one. `noted` is what the audit log says of
/// the filter.
pub fn begin(
    connection: &mut PgConnection,
    replay: &NewReplay,
    caller: &Caller,
    noted: &Value,
) -> QueryResult<Result<ReplayRow, Option<Uuid>>> {
    let begun = connection.transaction(|connection| {
        let row: ReplayRow = diesel::insert_into(replays::table)
            .values((replay, replays::due_at.eq(now)))
            .returning(ReplayRow::as_returning())
            .get_result(connection)?;
        let details = json!({
            "replay": row.id, "request": noted, "limit": row.at_most, "first": row.canary,
            "min_success": row.min_success, "rate_per_s": row.rate_per_s,
        });
        audit::note_other(connection, Actor::key(caller), "replay.start", details)?;
        Ok(row)
    });
    match begun {
        Ok(row) => Ok(Ok(row)),
        Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => replays::table
            .filter(replays::digest.eq(&replay.digest))
            .filter(replays::finished_at.is_null())
            .select(replays::id)
            .first(connection)
            .optional()
            .map(Err),
        Err(error) => Err(error),
    }
}

pub fn find(connection: &mut PgConnection, id: Uuid) -> QueryResult<Option<ReplayRow>> {
    replays::table
        .find(id)
        .select(ReplayRow::as_select())
        .first(connection)
        .optional()
}

/// The newest first.
pub fn list(
    connection: &mut PgConnection,
    below: Option<Uuid>,
    limit: i64,
) -> QueryResult<Vec<ReplayRow>> {
    let mut query = replays::table.into_boxed();
    if let Some(below) = below {
        query = query.filter(replays::id.lt(below));
    }
    query
        .select(ReplayRow::as_select())
        .order(replays::id.desc())
        .limit(limit)
        .load(connection)
}

/// Tasks of a replay that did not succeed, the latest first.
pub fn failures(connection: &mut PgConnection, id: Uuid, limit: i64) -> QueryResult<Vec<Uuid>> {
    replay_tasks::table
        .filter(replay_tasks::replay_id.eq(id))
        .filter(replay_tasks::outcome.eq("failed"))
        .select(replay_tasks::task_id)
        .order(replay_tasks::settled_at.desc())
        .limit(limit)
        .load(connection)
}

/// Stops a replay that is live; false when it is not. What it has run again is left to run.
pub fn stop(connection: &mut PgConnection, id: Uuid, caller: &Caller) -> QueryResult<bool> {
    connection.transaction(|connection| {
        let live = replays::table
            .find(id)
            .filter(replays::finished_at.is_null());
        let stopped = diesel::update(live)
            .set((
                replays::state.eq("CANCELLED"),
                replays::reason.eq(format!("stopped by the API key {}", caller.name)),
                replays::finished_at.eq(now),
                replays::updated_at.eq(now),
                replays::due_at.eq(now),
            ))
            .execute(connection)?;
        if stopped > 0 {
            let details = json!({"replay": id});
            audit::note_other(connection, Actor::key(caller), "replay.stop", details)?;
        }
        Ok(stopped > 0)
    })
}

/// Deletes one batch of what replays that ended longer ago noted of their tasks.
pub fn forget_tasks(connection: &mut PgConnection, days: u32, limit: i64) -> QueryResult<usize> {
    diesel::sql_query(
        "DELETE FROM replay_tasks WHERE (replay_id, task_id) IN (
            SELECT replay_id, task_id FROM replays JOIN replay_tasks ON replay_id = id
            WHERE finished_at < now() - make_interval(days => $1) LIMIT $2)",
    )
    .bind::<Integer, _>(i32::try_from(days).unwrap_or(i32::MAX))
    .bind::<BigInt, _>(limit)
    .execute(connection)
}

/// Deletes one batch of replays that ended longer ago and of whose tasks nothing is noted any more.
pub fn forget(connection: &mut PgConnection, days: u32, limit: i64) -> QueryResult<usize> {
    diesel::sql_query(
        "DELETE FROM replays WHERE id IN (
            SELECT id FROM replays
            WHERE finished_at < now() - make_interval(days => $1)
                AND NOT EXISTS (SELECT 1 FROM replay_tasks WHERE replay_id = id)
            LIMIT $2)",
    )
    .bind::<Integer, _>(i32::try_from(days).unwrap_or(i32::MAX))
    .bind::<BigInt, _>(limit)
    .execute(connection)
}
