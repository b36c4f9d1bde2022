//! Workers: their leases, as seen by the reaper, and what they report, as seen by people.

use super::audit::{self, Actor};
use crate::auth::Caller;
use chrono::{DateTime, Utc};
use diesel::{
    Connection, ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult,
    Queryable, QueryableByName, RunQueryDsl, Selectable, SelectableHelper,
    sql_types::{BigInt, Text},
};
use serde_json::json;
use shared::schema::workers::{self, dsl};
use std::collections::HashMap;
use uuid::Uuid;

/// Workers that count as alive, with their heartbeat counters.
pub fn alive(connection: &mut PgConnection) -> QueryResult<Vec<(Uuid, i64)>> {
    dsl::workers
        .filter(dsl::state.eq("alive"))
        .select((dsl::id, dsl::beats))
        .load(connection)
}

/// Declares a worker dead, unless its heart has beaten since. True: it was us who did.
pub fn declare_lost(connection: &mut PgConnection, id: Uuid, beats: i64) -> QueryResult<bool> {
    let worker = dsl::workers
        .filter(dsl::id.eq(id))
        .filter(dsl::beats.eq(beats))
        .filter(dsl::state.eq("alive"));
    diesel::update(worker)
        .set(dsl::state.eq("lost"))
        .execute(connection)
        .map(|changed| changed == 1)
}

/// Forgets workers that ended more than a day ago.
pub fn forget_old(connection: &mut PgConnection) -> QueryResult<usize> {
    let old = chrono::Utc::now() - chrono::TimeDelta::days(1);
    diesel::delete(
        dsl::workers
            .filter(dsl::state.ne("alive"))
            .filter(dsl::heartbeat_at.lt(old)),
    )
    .execute(connection)
}

/// A worker as it last reported.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = workers)]
pub struct WorkerRow {
    pub id: Uuid,
    pub name: String,
    pub host: String,
    pub pid: i32,
    pub version: String,
    pub queues: Vec<String>,
    pub state: String,
    pub started_at: DateTime<Utc>,
    pub heartbeat_at: DateTime<Utc>,
    pub kinds: Vec<String>,
    pub load: Option<serde_json::Value>,
    pub running: Option<serde_json::Value>,
    pub rss_bytes: Option<i64>,
    pub tasks_done: i64,
    pub drain: Option<String>,
}

/// Those of the last day, living ones and young ones first.
pub fn list(connection: &mut PgConnection, limit: i64) -> QueryResult<Vec<WorkerRow>> {
    workers::table
        .order((workers::state.ne("alive"), workers::started_at.desc()))
        .limit(limit)
        .select(WorkerRow::as_select())
        .load(connection)
}

pub fn find(connection: &mut PgConnection, id: Uuid) -> QueryResult<Option<WorkerRow>> {
    workers::table
        .find(id)
        .select(WorkerRow::as_select())
        .first(connection)
        .optional()
}

/// Has a living worker take nothing new (`stay`, `exit` or `restart`), or take again (none). False: it is not alive.
pub fn set_drain(
    connection: &mut PgConnection,
    id: Uuid,
    drain: Option<&'static str>,
    by: &Caller,
) -> QueryResult<bool> {
    connection.transaction(|connection| {
        let changed = diesel::update(workers::table.find(id))
            .filter(workers::state.eq("alive"))
            .set(workers::drain.eq(drain))
            .execute(connection)?;
        if changed > 0 {
            let action = if drain.is_some() {
                "worker.drain"
            } else {
                "worker.resume"
            };
            audit::note_other(
                connection,
                Actor::key(by),
                action,
                json!({"worker": id, "then": drain}),
            )?;
        }
        Ok(changed > 0)
    })
}

/// What the living workers that take from a queue have for it, all together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Slots {
    pub workers: i64,
    pub slots: i64,
    pub running: i64,
    /// Messages that they hold without having acknowledged them.
    pub unacked: i64,
}

#[derive(QueryableByName)]
struct SlotsRow {
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = BigInt)]
    workers: i64,
    #[diesel(sql_type = BigInt)]
    slots: i64,
    #[diesel(sql_type = BigInt)]
    running: i64,
    #[diesel(sql_type = BigInt)]
    unacked: i64,
}

/// By queue; draining workers don't count.
pub fn slots(connection: &mut PgConnection) -> QueryResult<HashMap<String, Slots>> {
    let rows: Vec<SlotsRow> = diesel::sql_query(
        "SELECT queue.name AS queue, count(*) AS workers,
            COALESCE(sum((load -> queue.name ->> 'slots')::bigint), 0)::bigint AS slots,
            COALESCE(sum((load -> queue.name ->> 'running')::bigint), 0)::bigint AS running,
            COALESCE(sum((load -> queue.name ->> 'unacked')::bigint), 0)::bigint AS unacked
         FROM workers CROSS JOIN LATERAL unnest(queues) AS queue (name)
         WHERE state = 'alive' AND drain IS NULL
         GROUP BY queue.name",
    )
    .load(connection)?;
    let named = |row: SlotsRow| {
        let slots = Slots {
            workers: row.workers,
            slots: row.slots,
            running: row.running,
            unacked: row.unacked,
        };
        (row.queue, slots)
    };
    Ok(rows.into_iter().map(named).collect())
}

/// What one worker may keep of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The fewest that a worker runs at a time.
    pub slots: i64,
    /// The most that a worker holds of one lane.
    pub prefetch: i64,
}

impl Room {
    /// Of workers that have not reported: anything is possible.
    pub const UNKNOWN: Self = Self {
        slots: 0,
        prefetch: u16::MAX as i64,
    };
}

#[derive(QueryableByName)]
struct RoomRow {
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = BigInt)]
    slots: i64,
    #[diesel(sql_type = BigInt)]
    prefetch: i64,
}

/// By queue; of workers that may still have a connection.
pub fn rooms(connection: &mut PgConnection) -> QueryResult<HashMap<String, Room>> {
    let rows: Vec<RoomRow> = diesel::sql_query(
        "SELECT queue.name AS queue,
            min(COALESCE((load -> queue.name ->> 'slots')::bigint, $1)) AS slots,
            max(COALESCE((load -> queue.name ->> 'prefetch')::bigint, $2)) AS prefetch
         FROM workers CROSS JOIN LATERAL unnest(queues) AS queue (name)
         WHERE state = 'alive' OR heartbeat_at > now() - interval '5 minutes'
         GROUP BY queue.name",
    )
    .bind::<BigInt, _>(Room::UNKNOWN.slots)
    .bind::<BigInt, _>(Room::UNKNOWN.prefetch)
    .load(connection)?;
    let named = |row: RoomRow| {
        let room = Room {
            slots: row.slots,
            prefetch: row.prefetch,
        };
        (row.queue, room)
    };
    Ok(rows.into_iter().map(named).collect())
}
