//! Checking a code: the try is counted before anything is compared, and the row stays locked until the outcome is
//! written, so that of any number of checks at once each has its turn.

use super::Row;
use crate::queries::users;
use chrono::{DateTime, Utc};
use diesel::{
    Connection, ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult,
    QueryableByName, RunQueryDsl, SelectableHelper,
    dsl::now,
    result::Error,
    sql_types::{Integer, Text, Uuid as SqlUuid},
};
use shared::{
    category::Category,
    config::Verification as Policy,
    schema::verifications,
    suppression::{
        Reason,
        rows::{self, New},
    },
    verification::NotMe,
};
use uuid::Uuid;

#[derive(Debug)]
pub enum Checked {
    /// Just now, and never again.
    Verified(Box<Row>),
    /// So many tries are left.
    Wrong(i32),
    /// No try is left, its time is over, or it was used; for people.
    Over(&'static str),
    /// Too many wrong codes for this recipient and purpose; in so many seconds.
    Locked(u64),
    NotFound,
}

/// `is_right` compares.
pub fn check(
    connection: &mut PgConnection,
    id: Uuid,
    policy: &Policy,
    is_right: &dyn Fn(&Row) -> bool,
) -> QueryResult<Checked> {
    let mut locked = None;
    let checked = connection.transaction(|connection| {
        let counted: Option<Row> = diesel::update(
            verifications::table
                .find(id)
                .filter(verifications::state.eq("pending"))
                .filter(verifications::attempts.lt(i32::from(policy.max_attempts)))
                .filter(verifications::expires_at.gt(now)),
        )
        .set(verifications::attempts.eq(verifications::attempts + 1))
        .returning(Row::as_returning())
        .get_result(connection)
        .optional()?;
        let Some(row) = counted else {
            return over(connection, id);
        };
        if let Some(seconds) = count(connection, &row, policy)? {
            locked = Some(seconds);
            // Nothing was compared, so no try is used up.
            return Err(Error::RollbackTransaction);
        }
        if !row.decoy && is_right(&row) {
            let verified: Row = diesel::update(verifications::table.find(id))
                .set((
                    verifications::state.eq("verified"),
                    verifications::verified_at.eq(now),
                ))
                .returning(Row::as_returning())
                .get_result(connection)?;
            forgive(connection, &verified)?;
            users::verify(connection, &verified.canonical)?;
            return Ok(Checked::Verified(Box::new(verified)));
        }
        let left = i32::from(policy.max_attempts) - row.attempts;
        if left <= 0 {
            diesel::update(verifications::table.find(id))
                .set(verifications::state.eq("failed"))
                .execute(connection)?;
        }
        Ok(Checked::Wrong(left.max(0)))
    });
    match (checked, locked) {
        (Err(Error::RollbackTransaction), Some(seconds)) => Ok(Checked::Locked(seconds)),
        (checked, _) => checked,
    }
}

#[derive(QueryableByName)]
struct Tries {
    #[diesel(sql_type = Integer)]
    failed: i32,
    #[diesel(sql_type = Integer)]
    left_s: i32,
}

/// Counts a try of the day, which is forgiven when it is right. Some: there are too many, so that nothing is to be
/// compared for so many seconds.
fn count(connection: &mut PgConnection, row: &Row, policy: &Policy) -> QueryResult<Option<u64>> {
    const DAY: u64 = 86_400;
    let tries: Tries = diesel::sql_query(
        "INSERT INTO verification_tries AS t (canonical, purpose, failed) VALUES ($1, $2, 1)
         ON CONFLICT (canonical, purpose) DO UPDATE SET
            failed = CASE WHEN t.since <= now() - interval '1 day' THEN 1 ELSE LEAST(t.failed, 1000000) + 1 END,
            since = CASE WHEN t.since <= now() - interval '1 day' THEN now() ELSE t.since END
         RETURNING t.failed, CEIL(EXTRACT(EPOCH FROM t.since + interval '1 day' - now()))::int AS left_s",
    )
    .bind::<Text, _>(&row.canonical)
    .bind::<Text, _>(counter(row))
    .get_result(connection)?;
    let most = policy.max_failed_per_day;
    let is_over = most > 0 && u32::try_from(tries.failed).unwrap_or(u32::MAX) > most;
    // When somebody has begun to guess is nobody's business who may know nothing.
    let left = u64::try_from(tries.left_s).unwrap_or(1).max(1);
    Ok(is_over.then_some(if row.open { DAY } else { left }))
}

/// Under which purpose a wrong code is counted: those of untrusted callers can't use up the tries of others, and decoys use
/// up nobody's.
fn counter(row: &Row) -> String {
    match (row.open, row.decoy) {
        (_, true) => format!("decoy {}", row.id),
        (true, false) => format!("open {}", row.purpose),
        (false, false) => row.purpose.clone(),
    }
}

/// The right code was shown, so whoever tries is the recipient.
fn forgive(connection: &mut PgConnection, row: &Row) -> QueryResult<()> {
    diesel::sql_query("DELETE FROM verification_tries WHERE canonical = $1 AND purpose = $2")
        .bind::<Text, _>(&row.canonical)
        .bind::<Text, _>(counter(row))
        .execute(connection)
        .map(|_| ())
}

fn over(connection: &mut PgConnection, id: Uuid) -> QueryResult<Checked> {
    let found: Option<(String, DateTime<Utc>)> = verifications::table
        .find(id)
        .select((verifications::state, verifications::expires_at))
        .first(connection)
        .optional()?;
    let Some((state, _)) = found else {
        return Ok(Checked::NotFound);
    };
    Ok(Checked::Over(match state.as_str() {
        "verified" => "The code was used already.",
        "failed" => "Its tries are used up.",
        "disowned" => "The recipient has said that they did not ask for it.",
        _ => "Its time is over.",
    }))
}

/// The recipient did not ask for it: the code is dead, and no more come for this purpose. False: that was known.
pub fn disown(connection: &mut PgConnection, who: &NotMe) -> QueryResult<bool> {
    connection.transaction(|connection| {
        let done = diesel::sql_query(
            "UPDATE verifications SET state = 'disowned' WHERE id = $1 AND state IN ('pending', 'expired', 'failed')",
        )
        .bind::<SqlUuid, _>(who.verification)
        .execute(connection)?;
        let new = New {
            address: who.recipient.clone(),
            category: Some(Category::Security),
            purpose: Some(who.purpose.clone()),
            reason: Reason::NotRequested,
            detail: None,
            task: None,
            expires_at: None,
            created_by: "warren".into(),
        };
        rows::add(connection, &[new])?;
        Ok(done > 0)
    })
}
