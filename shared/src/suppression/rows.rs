//! The table `suppressions`, as both services use it.

use super::{ALL_CATEGORIES, About, Reason};
use crate::{category::Category, schema::suppressions};
use chrono::{DateTime, Utc};
use diesel::{
    ExpressionMethods, PgConnection, QueryDsl, QueryResult, RunQueryDsl,
    dsl::now,
    sql_types::{Array, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use uuid::Uuid;

/// A suppression to be.
#[derive(Debug, Clone)]
pub struct New {
    /// Canonical.
    pub address: String,
    /// None: all.
    pub category: Option<Category>,
    pub purpose: Option<String>,
    pub reason: Reason,
    /// Without personal data.
    pub detail: Option<String>,
    pub task: Option<Uuid>,
    pub expires_at: Option<DateTime<Utc>>,
    pub created_by: String,
}

/// A row that keeps mails from its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocking {
    pub address: String,
    category: String,
    purpose: String,
    pub reason: String,
}

impl Blocking {
    pub fn concerns(&self, about: About<'_>) -> bool {
        let is_category =
            self.category == ALL_CATEGORIES || self.category == about.category.as_str();
        is_category && (self.purpose.is_empty() || about.purpose == Some(self.purpose.as_str()))
    }
}

/// Address, time and id of what has changed after that, in that order.
pub(super) fn changed(
    connection: &mut PgConnection,
    after: (DateTime<Utc>, Uuid),
    limit: i64,
) -> QueryResult<Vec<(String, DateTime<Utc>, Uuid)>> {
    use diesel::BoolExpressionMethods as _;
    let later = suppressions::updated_at.gt(after.0);
    let same = suppressions::updated_at
        .eq(after.0)
        .and(suppressions::id.gt(after.1));
    suppressions::table
        .filter(suppressions::updated_at.ge(after.0))
        .filter(later.or(same))
        .order((suppressions::updated_at, suppressions::id))
        .limit(limit)
        .select((
            suppressions::address,
            suppressions::updated_at,
            suppressions::id,
        ))
        .load(connection)
}

/// Those of these addresses, in any of their forms, that are in force.
pub fn blocking(connection: &mut PgConnection, forms: &[String]) -> QueryResult<Vec<Blocking>> {
    use diesel::BoolExpressionMethods as _;
    let in_force = suppressions::expires_at
        .is_null()
        .or(suppressions::expires_at.gt(now));
    let rows: Vec<(String, String, String, String)> = suppressions::table
        .filter(suppressions::address.eq_any(forms))
        .filter(in_force)
        .select((
            suppressions::address,
            suppressions::category,
            suppressions::purpose,
            suppressions::reason,
        ))
        .load(connection)?;
    let blocking = |(address, category, purpose, reason)| Blocking {
        address,
        category,
        purpose,
        reason,
    };
    Ok(rows.into_iter().map(blocking).collect())
}

/// Stores them all, in one statement; of one that is there already, reason, detail and end are replaced. Returns ids in
/// their order, and whether each is new.
pub fn add(connection: &mut PgConnection, new: &[New]) -> QueryResult<Vec<(Uuid, bool)>> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
        #[diesel(sql_type = diesel::sql_types::Bool)]
        is_new: bool,
        #[diesel(sql_type = Integer)]
        at: i32,
    }
    let text = |of: fn(&New) -> Option<&str>| -> Vec<Option<&str>> { new.iter().map(of).collect() };
    let place: Vec<i32> = (0..).take(new.len()).collect();
    let rows: Vec<Row> = diesel::sql_query(
        "WITH input AS (
            SELECT * FROM unnest($1::int[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[],
                $9::timestamptz[], $10::text[])
            AS input (at, id, address, category, purpose, reason, detail, task_id, expires_at, created_by)
         ), chosen AS (
            SELECT DISTINCT ON (address, category, purpose) * FROM input ORDER BY address, category, purpose, at DESC
         ), stored AS (
            INSERT INTO suppressions AS s (id, address, category, purpose, reason, detail, task_id, expires_at, created_by)
            SELECT id, address, category, purpose, reason, detail, task_id, expires_at, created_by FROM chosen
            -- What Warren adds by itself never ends sooner than what is there, and takes no person's word away.
            ON CONFLICT (address, category, purpose) DO UPDATE SET
                reason = CASE WHEN EXCLUDED.created_by = 'warren' AND s.reason IN ('manual', 'unsubscribe', 'not_requested')
                    THEN s.reason ELSE EXCLUDED.reason END,
                detail = EXCLUDED.detail, task_id = EXCLUDED.task_id,
                expires_at = CASE WHEN EXCLUDED.created_by <> 'warren' THEN EXCLUDED.expires_at
                    WHEN s.expires_at IS NULL OR EXCLUDED.expires_at IS NULL THEN NULL
                    ELSE GREATEST(s.expires_at, EXCLUDED.expires_at) END,
                created_by = CASE WHEN EXCLUDED.created_by = 'warren' AND s.reason = 'manual' THEN s.created_by
                    ELSE EXCLUDED.created_by END,
                updated_at = now()
            RETURNING s.id, s.address, s.category, s.purpose, xmax = 0 AS is_new
         )
         SELECT stored.id, is_new, input.at FROM input JOIN stored USING (address, category, purpose) ORDER BY input.at",
    )
    .bind::<Array<Integer>, _>(place)
    .bind::<Array<SqlUuid>, _>(new.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(new.iter().map(|one| one.address.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(
        new.iter()
            .map(|one| one.category.map_or(ALL_CATEGORIES, Category::as_str))
            .collect::<Vec<_>>(),
    )
    .bind::<Array<Text>, _>(
        new.iter()
            .map(|one| one.purpose.as_deref().unwrap_or_default())
            .collect::<Vec<_>>(),
    )
    .bind::<Array<Text>, _>(new.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(text(|one| one.detail.as_deref()))
    .bind::<Array<Nullable<SqlUuid>>, _>(new.iter().map(|one| one.task).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(
        new.iter().map(|one| one.expires_at).collect::<Vec<_>>(),
    )
    .bind::<Array<Text>, _>(
        new.iter()
            .map(|one| one.created_by.as_str())
            .collect::<Vec<_>>(),
    )
    .load(connection)?;
    debug_assert!(rows.is_sorted_by_key(|row| row.at));
    Ok(rows.into_iter().map(|row| (row.id, row.is_new)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_concerns_its_category_and_purpose() {
        let row = |category: &str, purpose: &str| Blocking {
            address: "a@b.example".into(),
            category: category.into(),
            purpose: purpose.into(),
            reason: "manual".into(),
        };
        let mail = |category, purpose| About { category, purpose };
        let marketing = mail(Category::Marketing, None);
        let code = mail(Category::Security, Some("login"));
        assert!(row("*", "").concerns(marketing) && row("*", "").concerns(code));
        assert!(row("marketing", "").concerns(marketing));
        assert!(!row("marketing", "").concerns(code));
        assert!(row("security", "login").concerns(code));
        assert!(!row("security", "signup").concerns(code));
        assert!(!row("security", "login").concerns(mail(Category::Security, None)));
    }
}
