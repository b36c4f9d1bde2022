//! What was answered under an Idempotency-Key.

use crate::intake::{Answer, Outcome};
use diesel::{OptionalExtension, PgConnection, QueryDsl, QueryResult, RunQueryDsl};
use shared::schema::idempotency_keys::dsl;
use uuid::Uuid;

/// `Replayed` for the same request, `KeyReused` for another, nothing for a new key.
pub fn find(
    connection: &mut PgConnection,
    owner: Uuid,
    key: &str,
    request_hash: &[u8],
) -> QueryResult<Option<Outcome>> {
    let earlier: Option<(Vec<u8>, i16, Option<String>, String)> = dsl::idempotency_keys
        .find((owner, key))
        .select((dsl::request_hash, dsl::status, dsl::location, dsl::answer))
        .first(connection)
        .optional()?;
    Ok(earlier.map(|(hash, status, location, body)| {
        if hash != request_hash {
            return Outcome::KeyReused;
        }
        Outcome::Replayed(Answer {
            status: u16::try_from(status).unwrap_or(202),
            location,
            body,
        })
    }))
}
