//! What a version of a template consists of.

use diesel::{OptionalExtension, PgConnection, QueryDsl, QueryResult, RunQueryDsl};
use shared::schema::template_versions::dsl;

pub fn content(
    connection: &mut PgConnection,
    name: &str,
    version: i32,
) -> QueryResult<Option<serde_json::Value>> {
    dsl::template_versions
        .find((name, version))
        .select(dsl::content)
        .first(connection)
        .optional()
}
