//! The broker's epoch: which life of its data our messages went to.

use super::outbox;
use diesel::{
    Connection, ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult,
    RunQueryDsl,
};
use shared::{schema::broker_epoch::dsl, topology};

/// The epoch on record; 0 before the first broker was seen.
pub fn current(connection: &mut PgConnection) -> QueryResult<i64> {
    dsl::broker_epoch
        .select(dsl::epoch)
        .first(connection)
        .optional()
        .map(Option::unwrap_or_default)
}

/// The broker has none of our data: begins the next epoch and puts every waiting task into the outbox,
/// together or not at all. `None`: another replica did so first.
pub fn begin(connection: &mut PgConnection, seen: i64) -> QueryResult<Option<usize>> {
    connection.transaction(|connection| {
        diesel::insert_into(dsl::broker_epoch)
            .values(dsl::epoch.eq(0))
            .on_conflict_do_nothing()
            .execute(connection)?;
        let moved = diesel::update(dsl::broker_epoch.filter(dsl::epoch.eq(seen)))
            .set((
                dsl::epoch.eq(seen + 1),
                dsl::started_at.eq(diesel::dsl::now),
            ))
            .execute(connection)?;
        if moved == 0 {
            return Ok(None);
        }
        outbox::republish_all(connection, topology::TASKS).map(Some)
    })
}
