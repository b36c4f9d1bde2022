//! Reading tasks. Lists stay cheap however long history is: they walk the primary key or one of the partial
//! indexes, and a filter that no index serves is tried on a bounded stretch of history at a time.

mod page;

pub use page::{Filter, Page, page};

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryDsl, QueryResult, Queryable, RunQueryDsl, Selectable,
    SelectableHelper,
    deserialize::{self, FromSql, FromSqlRow},
    dsl::sql,
    expression::SqlLiteral,
    pg::{Pg, PgValue},
    sql_types::{Bool, Json},
};
use shared::{schema::tasks, task::Status};
use uuid::Uuid;

/// JSON as it is stored, not parsed.
#[derive(Debug, Clone, PartialEq, Eq, FromSqlRow)]
pub struct JsonText(pub String);

impl FromSql<Json, Pg> for JsonText {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(String::from_utf8(value.as_bytes().to_vec())?))
    }
}

/// A task without its payload.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = tasks)]
pub struct TaskRow {
    pub id: Uuid,
    pub kind: String,
    pub queue: String,
    pub priority: i16,
    pub status: String,
    pub result: Option<JsonText>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub attempt: i32,
    pub max_attempts: i32,
    pub tags: Vec<String>,
    pub run_at: Option<DateTime<Utc>>,
    pub useful_until: Option<DateTime<Utc>>,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub progress: Option<JsonText>,
    pub limit_key: Option<String>,
    /// Its `result_ttl` is over.
    #[diesel(select_expression = sql::<Bool>("COALESCE(tasks.result_ttl_s < 0, false)"))]
    #[diesel(select_expression_type = SqlLiteral<Bool>)]
    pub has_outlived_result: bool,
}

impl TaskRow {
    pub fn status(&self) -> Option<Status> {
        Status::parse(&self.status)
    }
}

/// One task.
pub fn find(connection: &mut PgConnection, id: Uuid) -> QueryResult<Option<TaskRow>> {
    tasks::table
        .find(id)
        .select(TaskRow::as_select())
        .first(connection)
        .optional()
}

/// One task and its payload.
pub fn find_with_payload(
    connection: &mut PgConnection,
    id: Uuid,
) -> QueryResult<Option<(TaskRow, JsonText)>> {
    tasks::table
        .find(id)
        .select((TaskRow::as_select(), tasks::payload))
        .first(connection)
        .optional()
}
