//! Worker leases, as seen by the reaper.

use diesel::{ExpressionMethods, PgConnection, QueryDsl, QueryResult, RunQueryDsl};
use shared::schema::workers::dsl;
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
