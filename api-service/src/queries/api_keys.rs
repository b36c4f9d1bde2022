//! API keys. Only hashes are stored.

use crate::auth::{Caller, KeyHash, KnownKey, Scope};
use chrono::{DateTime, Utc};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, Insertable, IntoSql, PgConnection, QueryDsl,
    QueryResult, Queryable, RunQueryDsl, Selectable, SelectableHelper,
    dsl::now,
    sql_types::{Array, Nullable, Timestamptz, Uuid as SqlUuid},
};
use shared::schema::api_keys;
use std::sync::atomic::AtomicBool;
use uuid::Uuid;

/// A key that is neither revoked nor known to have expired.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = api_keys)]
pub struct ValidKey {
    id: Uuid,
    name: String,
    hash: Vec<u8>,
    expires_at: Option<DateTime<Utc>>,
    scopes: Vec<String>,
}

impl ValidKey {
    /// The form that the key ring keeps.
    pub fn into_entry(self) -> Option<(KeyHash, KnownKey)> {
        let caller = Caller {
            key_id: self.id,
            name: self.name.into(),
            // What is not known here was made by a later version, and permits nothing.
            scopes: self
                .scopes
                .iter()
                .filter_map(|scope| Scope::parse(scope))
                .collect(),
        };
        let known = KnownKey {
            caller,
            expires_at: self.expires_at,
            used: AtomicBool::new(false),
        };
        Some((self.hash.try_into().ok()?, known))
    }
}

/// Every key that is not revoked and, by the database's clock, not expired.
pub fn valid(connection: &mut PgConnection) -> QueryResult<Vec<ValidKey>> {
    api_keys::table
        .filter(api_keys::revoked_at.is_null())
        .filter(
            api_keys::expires_at
                .is_null()
                .or(api_keys::expires_at.gt(now.into_sql::<Nullable<Timestamptz>>())),
        )
        .select(ValidKey::as_select())
        .load(connection)
}

/// A key to be stored.
#[derive(Debug, Insertable)]
#[diesel(table_name = api_keys)]
pub struct NewKey<'a> {
    pub id: Uuid,
    pub name: &'a str,
    pub hash: &'a [u8],
    pub hint: &'a str,
    pub expires_at: Option<DateTime<Utc>>,
    pub scopes: Vec<&'static str>,
}

pub fn insert(connection: &mut PgConnection, key: &NewKey<'_>) -> QueryResult<usize> {
    diesel::insert_into(api_keys::table)
        .values(key)
        .execute(connection)
}

/// What is known of a key, for people.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = api_keys)]
pub struct KeyRow {
    pub id: Uuid,
    pub name: String,
    pub hint: String,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
    pub scopes: Vec<String>,
    pub last_used_at: Option<DateTime<Utc>>,
}

/// Every key there ever was, the newest first.
pub fn list(connection: &mut PgConnection) -> QueryResult<Vec<KeyRow>> {
    api_keys::table
        .select(KeyRow::as_select())
        .order((api_keys::created_at.desc(), api_keys::id.desc()))
        .load(connection)
}

/// Notes that these keys have been used, to the minute.
pub fn used(connection: &mut PgConnection, ids: &[Uuid]) -> QueryResult<usize> {
    diesel::sql_query(
        "UPDATE api_keys SET last_used_at = now()
         WHERE id = ANY($1) AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')",
    )
    .bind::<Array<SqlUuid>, _>(ids)
    .execute(connection)
}

/// Revokes a key; false when there is no such key. Revoking twice keeps the first time.
pub fn revoke(connection: &mut PgConnection, id: Uuid) -> QueryResult<bool> {
    let revoked = diesel::update(
        api_keys::table
            .find(id)
            .filter(api_keys::revoked_at.is_null()),
    )
    .set(api_keys::revoked_at.eq(now))
    .execute(connection)?;
    if revoked > 0 {
        return Ok(true);
    }
    diesel::select(diesel::dsl::exists(api_keys::table.find(id))).get_result(connection)
}
