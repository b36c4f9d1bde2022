//! Failed tasks in groups of one cause.

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    sql_types::{BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use uuid::Uuid;

/// Tasks with the same kind, error code and fingerprint: their messages differ in numbers and ids alone.
#[derive(Debug, QueryableByName)]
pub struct Group {
    #[diesel(sql_type = Text)]
    pub kind: String,
    #[diesel(sql_type = Text)]
    pub error_code: String,
    #[diesel(sql_type = Text)]
    pub fingerprint: String,
    #[diesel(sql_type = BigInt)]
    pub count: i64,
    #[diesel(sql_type = Timestamptz)]
    pub first_seen: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub last_seen: DateTime<Utc>,
    #[diesel(sql_type = SqlUuid)]
    pub sample_id: Uuid,
    #[diesel(sql_type = Nullable<Text>)]
    pub sample_message: Option<String>,
    /// Failed tasks looked at, in all groups.
    #[diesel(sql_type = BigInt)]
    pub considered: i64,
}

/// The largest groups among the `newest` failed tasks (by acceptance).
pub fn groups(
    connection: &mut PgConnection,
    kind: Option<&str>,
    queue: Option<&str>,
    newest: i64,
    limit: i64,
) -> QueryResult<Vec<Group>> {
    diesel::sql_query(
        "WITH failed AS (
            SELECT id, kind, error_code, error_message, finished_at,
                error_fingerprint(kind, error_code, error_message) AS fingerprint
            FROM (
                SELECT * FROM tasks WHERE error_code IS NOT NULL AND status = 'FAILED' ORDER BY id DESC LIMIT $3
            ) AS newest
            WHERE ($1 IS NULL OR kind = $1) AND ($2 IS NULL OR queue = $2)
         )
         SELECT kind, error_code, fingerprint, count(*) AS count, min(finished_at) AS first_seen, max(finished_at) AS last_seen,
            (array_agg(id ORDER BY id DESC))[1] AS sample_id,
            (array_agg(error_message ORDER BY id DESC))[1] AS sample_message,
            (sum(count(*)) OVER ())::bigint AS considered
         FROM failed GROUP BY kind, error_code, fingerprint
         ORDER BY count DESC, last_seen DESC LIMIT $4",
    )
    .bind::<Nullable<Text>, _>(kind)
    .bind::<Nullable<Text>, _>(queue)
    .bind::<BigInt, _>(newest)
    .bind::<BigInt, _>(limit)
    .load(connection)
}
