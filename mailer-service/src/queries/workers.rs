//! This process's row among the workers: its lease on all the tasks it runs.

use diesel::{AsChangeset, ExpressionMethods, Insertable, PgConnection, QueryResult, RunQueryDsl};
use shared::schema::workers::{self, dsl};
use uuid::Uuid;

#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = workers)]
pub struct NewWorker {
    pub id: Uuid,
    pub name: String,
    pub host: String,
    pub pid: i32,
    pub version: &'static str,
    pub queues: Vec<&'static str>,
    pub kinds: Vec<&'static str>,
    pub state: &'static str,
}

/// What a worker says of itself with each heartbeat.
#[derive(Debug, Clone, AsChangeset)]
#[diesel(table_name = workers)]
pub struct Report {
    /// Per queue: slots, running, held.
    pub load: serde_json::Value,
    /// The attempts that have run longest: `[{"task_id", "attempt", "since"}]`.
    pub running: serde_json::Value,
    pub rss_bytes: Option<i64>,
    /// Attempts that ended since its start.
    pub tasks_done: i64,
}

pub fn register(connection: &mut PgConnection, worker: &NewWorker) -> QueryResult<()> {
    diesel::insert_into(dsl::workers)
        .values(worker)
        .on_conflict_do_nothing()
        .execute(connection)
        .map(|_| ())
}

/// Renews the lease. False: the worker was declared dead.
/// `clock_ahead_s`: by how much this process's clock is ahead of the database's.
pub fn beat(
    connection: &mut PgConnection,
    id: Uuid,
    report: &Report,
    clock_ahead_s: f64,
) -> QueryResult<bool> {
    diesel::update(dsl::workers)
        .filter(dsl::id.eq(id))
        .filter(dsl::state.eq("alive"))
        .set((
            dsl::beats.eq(dsl::beats + 1),
            dsl::heartbeat_at.eq(diesel::dsl::now),
            report,
            dsl::clock_ahead_s.eq(clock_ahead_s),
        ))
        .execute(connection)
        .map(|changed| changed == 1)
}

/// Says that this worker has ended by itself.
pub fn stopped(connection: &mut PgConnection, id: Uuid) -> QueryResult<usize> {
    diesel::update(dsl::workers)
        .filter(dsl::id.eq(id))
        .filter(dsl::state.eq("alive"))
        .set(dsl::state.eq("stopped"))
        .execute(connection)
}
