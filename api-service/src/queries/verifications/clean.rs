//! What is over by age.

use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    sql_types::{BigInt, Integer},
};

/// One batch of each: codes whose time is over are marked so, and what is older than `keep_days`, or no longer counts, is
/// deleted.
pub fn clean(connection: &mut PgConnection, keep_days: u32, limit: i64) -> QueryResult<usize> {
    let days = i32::try_from(keep_days).unwrap_or(i32::MAX);
    let expired = diesel::sql_query(
        "UPDATE verifications SET state = 'expired' WHERE id IN (
            SELECT id FROM verifications WHERE state = 'pending' AND expires_at <= now()
            ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)",
    )
    .bind::<BigInt, _>(limit)
    .execute(connection)?;
    // Ids carry the time of their making, so the oldest are the first of the primary key.
    let deleted = diesel::sql_query(
        "DELETE FROM verifications WHERE id IN (
            SELECT id FROM (SELECT id, created_at, expires_at FROM verifications ORDER BY id LIMIT $1) AS oldest
            WHERE created_at < now() - make_interval(days => $2) AND expires_at < now())",
    )
    .bind::<BigInt, _>(limit)
    .bind::<Integer, _>(days)
    .execute(connection)?;
    let mut most = expired.max(deleted);
    for statement in [
        "DELETE FROM verification_windows WHERE (source, hour) IN (
            SELECT source, hour FROM verification_windows WHERE hour < now() - interval '2 hours' LIMIT $1)",
        "DELETE FROM verification_tries WHERE (canonical, purpose) IN (
            SELECT canonical, purpose FROM verification_tries WHERE since < now() - interval '1 day' LIMIT $1)",
        "DELETE FROM verification_recipients WHERE canonical IN (
            SELECT canonical FROM verification_recipients WHERE updated_at < now() - interval '1 day' LIMIT $1)",
    ] {
        let gone = diesel::sql_query(statement)
            .bind::<BigInt, _>(limit)
            .execute(connection)?;
        most = most.max(gone);
    }
    Ok(most)
}
