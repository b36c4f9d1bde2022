//! Templates of mails and their versions. What was published never changes; a draft does until it is published.

use super::audit::{self, Actor};
use crate::auth::Caller;
use chrono::{DateTime, Utc};
use diesel::{
    Connection, ExpressionMethods, NullableExpressionMethods, OptionalExtension, PgConnection,
    QueryDsl, QueryResult, Queryable, QueryableByName, RunQueryDsl, Selectable, SelectableHelper,
    sql_types::{BigInt, Bool, Integer, Json, Nullable, Text},
};
use serde_json::{Value, json};
use shared::schema::{template_versions, templates};

/// A name, and which version of it mails get.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = templates)]
pub struct Template {
    pub name: String,
    pub description: Option<String>,
    pub published: Option<i32>,
    pub updated_at: DateTime<Utc>,
}

#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = template_versions)]
pub struct Version {
    pub version: i32,
    pub content: Value,
    pub created_at: DateTime<Utc>,
    pub created_by: String,
    /// None: a draft.
    pub published_at: Option<DateTime<Utc>>,
}

/// In the order of their names; `mail.max_templates` bounds them.
pub fn list(connection: &mut PgConnection) -> QueryResult<Vec<Template>> {
    templates::table
        .order(templates::name)
        .select(Template::as_select())
        .load(connection)
}

pub fn find(connection: &mut PgConnection, name: &str) -> QueryResult<Option<Template>> {
    templates::table
        .find(name)
        .select(Template::as_select())
        .first(connection)
        .optional()
}

/// The newest first; those of an earlier template of that name among them.
pub fn versions(
    connection: &mut PgConnection,
    name: &str,
    limit: i64,
) -> QueryResult<Vec<Version>> {
    template_versions::table
        .filter(template_versions::template.eq(name))
        .order(template_versions::version.desc())
        .limit(limit)
        .select(Version::as_select())
        .load(connection)
}

pub fn version(
    connection: &mut PgConnection,
    name: &str,
    number: i32,
) -> QueryResult<Option<Version>> {
    template_versions::table
        .find((name, number))
        .select(Version::as_select())
        .first(connection)
        .optional()
}

#[derive(QueryableByName)]
struct Made {
    #[diesel(sql_type = Bool)]
    is_new: bool,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = Integer)]
    version: i32,
}

/// Stores a draft: the one there is, or a new version. Returns whether the template is new; none: there are as many
/// templates as there may be.
pub fn put(
    connection: &mut PgConnection,
    name: &str,
    description: Option<&str>,
    content: &Value,
    most: i64,
    by: &Caller,
) -> QueryResult<Option<bool>> {
    connection.transaction(|connection| {
        // Also locks it, so that two don't make the same version.
        let made: Option<Made> = diesel::sql_query(
            "INSERT INTO templates (name, description)
             SELECT $1, $2 WHERE EXISTS (SELECT 1 FROM templates WHERE name = $1)
                OR (SELECT count(*) FROM templates) < $3
             ON CONFLICT (name) DO UPDATE SET description = EXCLUDED.description, updated_at = now()
             RETURNING xmax = 0 AS is_new",
        )
        .bind::<Text, _>(name)
        .bind::<Nullable<Text>, _>(description)
        .bind::<BigInt, _>(most)
        .get_result(connection)
        .optional()?;
        let Some(Made { is_new }) = made else {
            return Ok(None);
        };
        let draft: Option<Number> = diesel::sql_query(
            "UPDATE template_versions SET content = $2, created_at = now(), created_by = $3
             WHERE template = $1 AND published_at IS NULL
                AND version = (SELECT max(version) FROM template_versions WHERE template = $1)
             RETURNING version",
        )
        .bind::<Text, _>(name)
        .bind::<Json, _>(content)
        .bind::<Text, _>(&*by.name)
        .get_result(connection)
        .optional()?;
        let number = match draft {
            Some(draft) => draft.version,
            None => insert(connection, name, content, by)?,
        };
        let details = json!({"template": name, "version": number});
        audit::note_other(connection, Actor::key(by), "template.put", details)?;
        Ok(Some(is_new))
    })
}

fn insert(
    connection: &mut PgConnection,
    name: &str,
    content: &Value,
    by: &Caller,
) -> QueryResult<i32> {
    let made: Number = diesel::sql_query(
        "INSERT INTO template_versions (template, version, content, created_by)
         SELECT $1, COALESCE(max(version), 0) + 1, $2, $3 FROM template_versions WHERE template = $1
         RETURNING version",
    )
    .bind::<Text, _>(name)
    .bind::<Json, _>(content)
    .bind::<Text, _>(&*by.name)
    .get_result(connection)?;
    Ok(made.version)
}

/// Has mails get that version. False: there is none such.
pub fn publish(
    connection: &mut PgConnection,
    name: &str,
    version: i32,
    by: &Caller,
) -> QueryResult<bool> {
    connection.transaction(|connection| {
        let published = diesel::sql_query(
            "WITH template AS (
                SELECT name FROM templates WHERE name = $1 FOR UPDATE
             ), chosen AS (
                UPDATE template_versions SET published_at = COALESCE(published_at, now()) FROM template
                WHERE template = template.name AND version = $2
                RETURNING version
             )
             UPDATE templates SET published = chosen.version, updated_at = now() FROM chosen
             WHERE templates.name = $1",
        )
        .bind::<Text, _>(name)
        .bind::<Integer, _>(version)
        .execute(connection)?;
        if published > 0 {
            let details = json!({"template": name, "version": version});
            audit::note_other(connection, Actor::key(by), "template.publish", details)?;
        }
        Ok(published > 0)
    })
}

/// Its versions stay, for mails that were accepted with them. False: there is none.
pub fn delete(connection: &mut PgConnection, name: &str, by: &Caller) -> QueryResult<bool> {
    connection.transaction(|connection| {
        let deleted = diesel::delete(templates::table.find(name)).execute(connection)?;
        if deleted > 0 {
            let details = json!({"template": name});
            audit::note_other(connection, Actor::key(by), "template.delete", details)?;
        }
        Ok(deleted > 0)
    })
}

/// What mails get now: names and versions.
pub fn published(connection: &mut PgConnection) -> QueryResult<Vec<(String, i32)>> {
    templates::table
        .filter(templates::published.is_not_null())
        .select((templates::name, templates::published.assume_not_null()))
        .load(connection)
}
