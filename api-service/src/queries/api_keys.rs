//! API keys. Only hashes are stored.

use crate::{
    auth::{Caller, KeyHash, KnownKey, Scope},
    budget::{Budgets, OwnLimits},
};
use chrono::{DateTime, Utc};
use diesel::{
    AsChangeset, BoolExpressionMethods, ExpressionMethods, Insertable, IntoSql, JoinOnDsl,
    NullableExpressionMethods, PgConnection, QueryDsl, QueryResult, Queryable, RunQueryDsl,
    Selectable, SelectableHelper,
    dsl::{now, sql},
    sql_types::{Array, Date, Nullable, Timestamptz, Uuid as SqlUuid},
};
use serde::Serialize;
use shared::schema::{api_key_usage, api_keys};
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
    rate_per_s: Option<f64>,
    burst: Option<i32>,
    daily_quota: Option<i64>,
}

impl ValidKey {
    /// The form that the key ring keeps.
    pub fn into_entry(self, budgets: &Budgets) -> Option<(KeyHash, KnownKey)> {
        let own = OwnLimits {
            rate_per_s: self.rate_per_s,
            burst: self.burst,
            daily_quota: self.daily_quota,
        };
        let caller = Caller {
            key_id: self.id,
            name: self.name.into(),
            // What is not known here was made by a later version, and permits nothing.
            scopes: self
                .scopes
                .iter()
                .filter_map(|scope| Scope::parse(scope))
                .collect(),
            budget: budgets.of(self.id, own),
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
    pub rate_per_s: Option<f64>,
    pub burst: Option<i32>,
    pub daily_quota: Option<i64>,
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
    pub rate_per_s: Option<f64>,
    pub burst: Option<i32>,
    pub daily_quota: Option<i64>,
}

/// Other limits for a key; what is not set stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, AsChangeset, Serialize)]
#[diesel(table_name = api_keys)]
pub struct NewLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<Option<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<Option<i32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily_quota: Option<Option<i64>>,
}

/// Changes a key's limits; false when there is no such key.
pub fn limit(connection: &mut PgConnection, id: Uuid, limits: NewLimits) -> QueryResult<bool> {
    diesel::update(api_keys::table.find(id))
        .set(limits)
        .execute(connection)
        .map(|changed| changed > 0)
}

/// Every key there ever was, the newest first, and what it has used of today's quota, if that is counted.
pub fn list(connection: &mut PgConnection) -> QueryResult<Vec<(KeyRow, Option<i64>)>> {
    let today = api_key_usage::day.eq(sql::<Date>("(now() AT TIME ZONE 'UTC')::date"));
    api_keys::table
        .left_join(api_key_usage::table.on(api_key_usage::api_key_id.eq(api_keys::id).and(today)))
        .select((KeyRow::as_select(), api_key_usage::tasks.nullable()))
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
