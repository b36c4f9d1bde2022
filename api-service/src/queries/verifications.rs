//! Verifications: who asked for a code, whether it may be sent, and whether it was shown.

mod ask;
mod check;
mod clean;
mod limits;

pub use ask::{Ask, Asked, ask};
pub use check::{Checked, check, disown};
pub use clean::clean;
pub use limits::{Throttled, count_sources};

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryDsl, QueryResult, Queryable, QueryableByName,
    RunQueryDsl, Selectable, SelectableHelper,
    sql_types::{BigInt, Double, Integer, Nullable, Text},
};
use shared::{
    schema::verifications,
    verification::{Form, Subject},
};
use uuid::Uuid;

#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = verifications)]
pub struct Row {
    pub id: Uuid,
    pub purpose: String,
    pub recipient: String,
    pub canonical: String,
    pub pepper: String,
    pub generation: i32,
    pub form: String,
    pub state: String,
    pub attempts: i32,
    pub sends: i32,
    pub open: bool,
    pub decoy: bool,
    pub locale: Option<String>,
    pub task_id: Uuid,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub verified_at: Option<DateTime<Utc>>,
}

impl Row {
    pub fn form(&self) -> Form {
        Form::parse(&self.form).unwrap_or(Form::Digits6)
    }

    pub fn subject(&self) -> Subject<'_> {
        Subject {
            verification: self.id,
            purpose: &self.purpose,
            recipient: &self.canonical,
            generation: self.generation,
            form: self.form(),
        }
    }
}

pub fn find(connection: &mut PgConnection, id: Uuid) -> QueryResult<Option<Row>> {
    verifications::table
        .find(id)
        .select(Row::as_select())
        .first(connection)
        .optional()
}

/// What became of the codes for a purpose.
#[derive(Debug, QueryableByName, serde::Serialize, utoipa::ToSchema)]
#[schema(as = VerificationCounts)]
pub struct Counts {
    #[diesel(sql_type = Text)]
    pub purpose: String,
    /// Verifications that were asked for.
    #[diesel(sql_type = BigInt)]
    pub asked: i64,
    /// Mails.
    #[diesel(sql_type = BigInt)]
    pub sent: i64,
    #[diesel(sql_type = BigInt)]
    pub verified: i64,
    #[diesel(sql_type = BigInt)]
    pub expired: i64,
    /// Their tries were used up.
    #[diesel(sql_type = BigInt)]
    pub failed: i64,
    /// The recipient has said that they had not asked.
    #[diesel(sql_type = BigInt)]
    pub disowned: i64,
    #[diesel(sql_type = BigInt)]
    pub pending: i64,
    /// From the request to the right code, in seconds; null: there was none.
    #[diesel(sql_type = Nullable<Double>)]
    pub median_seconds_to_verify: Option<f64>,
}

/// Of the last so many hours, by purpose.
pub fn statistics(connection: &mut PgConnection, hours: i32) -> QueryResult<Vec<Counts>> {
    diesel::sql_query(
        "SELECT purpose, count(*) AS asked, COALESCE(sum(sends), 0)::bigint AS sent,
            count(*) FILTER (WHERE state = 'verified') AS verified,
            count(*) FILTER (WHERE state = 'expired' OR (state = 'pending' AND expires_at <= now())) AS expired,
            count(*) FILTER (WHERE state = 'failed') AS failed,
            count(*) FILTER (WHERE state = 'disowned') AS disowned,
            count(*) FILTER (WHERE state = 'pending' AND expires_at > now()) AS pending,
            (percentile_cont(0.5) WITHIN GROUP (ORDER BY EXTRACT(EPOCH FROM verified_at - created_at)::float8)
                FILTER (WHERE state = 'verified')) AS median_seconds_to_verify
         FROM verifications WHERE created_at > now() - make_interval(hours => $1) AND NOT decoy
         GROUP BY purpose ORDER BY purpose",
    )
    .bind::<Integer, _>(hours)
    .load(connection)
}
