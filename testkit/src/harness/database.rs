//! The test's schema and a connection to look into it with.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use diesel::connection::SimpleConnection;
use diesel::sql_types::{Nullable, Text};
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl};
use serde_json::Value;

pub(super) struct Database {
    url: String,
    server_url: String,
    schema: String,
    connection: Arc<Mutex<PgConnection>>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

#[derive(QueryableByName)]
struct One {
    #[diesel(sql_type = Nullable<Text>)]
    value: Option<String>,
}

impl Database {
    pub(super) async fn create_schema(server_url: &str, schema: &str) -> Result<Self> {
        let (server_url, schema) = (server_url.to_owned(), schema.to_owned());
        tokio::task::spawn_blocking(move || {
            let url = with_search_path(&server_url, &schema);
            let mut connection = PgConnection::establish(&url)
                .context("no PostgreSQL at TEST_DATABASE_URL; run the tests by `make test`")?;
            connection.batch_execute(&format!("CREATE SCHEMA {schema}"))?;
            let connection = Arc::new(Mutex::new(connection));
            Ok(Self {
                url,
                server_url,
                schema,
                connection,
            })
        })
        .await?
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) async fn scalar(&self, query: &str) -> Result<Option<String>> {
        let wrapped = format!("SELECT ({})::text AS value", bare(query));
        Ok(self
            .load(query, wrapped)
            .await?
            .into_iter()
            .next()
            .flatten())
    }

    pub(super) async fn rows(&self, query: &str) -> Result<Vec<Value>> {
        let wrapped = format!(
            "SELECT row_to_json(row)::text AS value FROM ({}) AS row",
            bare(query)
        );
        let rows = self.load(query, wrapped).await?;
        rows.into_iter()
            .flatten()
            .map(|text| Ok(serde_json::from_str(&text)?))
            .collect()
    }

    pub(super) async fn execute(&self, statements: &str) -> Result<()> {
        let statements = statements.to_owned();
        self.with(move |connection| {
            connection
                .batch_execute(&statements)
                .with_context(|| format!("SQL failed: {statements}"))
        })
        .await
    }

    pub(super) async fn drop_schema(&self) -> Result<()> {
        let (server_url, schema) = (self.server_url.clone(), self.schema.clone());
        tokio::task::spawn_blocking(move || drop_schema_now(&server_url, &schema)).await?
    }

    async fn load(&self, shown: &str, query: String) -> Result<Vec<Option<String>>> {
        let shown = shown.to_owned();
        self.with(move |connection| {
            let rows = diesel::sql_query(query).load::<One>(connection);
            let rows = rows.with_context(|| format!("SQL failed: {shown}"))?;
            Ok(rows.into_iter().map(|row| row.value).collect())
        })
        .await
    }

    /// Runs the work on a thread that may block; connects anew if a test has broken the connection.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut PgConnection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (connection, url) = (self.connection.clone(), self.url.clone());
        tokio::task::spawn_blocking(move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            if connection.batch_execute("").is_err() {
                *connection =
                    PgConnection::establish(&url).context("the test's PostgreSQL is gone")?;
            }
            work(&mut connection)
        })
        .await?
    }
}

/// Drops the schema with everything in it. Sessions that a test has left open there are ended first: one that holds a
/// lock would make this wait for ever.
pub(super) fn drop_schema_now(server_url: &str, schema: &str) -> Result<()> {
    let mut connection =
        PgConnection::establish(server_url).context("cannot connect to drop the test's schema")?;
    for _ in 0..5 {
        let drop = format!("SET lock_timeout = '500ms'; DROP SCHEMA IF EXISTS {schema} CASCADE");
        if connection.batch_execute(&drop).is_ok() {
            return Ok(());
        }
        let end_blockers = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_class ON pg_class.oid = relation \
             WHERE relnamespace = '{schema}'::regnamespace AND pid <> pg_backend_pid()"
        );
        connection.batch_execute(&end_blockers)?;
    }
    bail!("cannot drop the schema {schema}: some session keeps its tables locked")
}

/// libpq's `options` with the schema as the search path.
fn with_search_path(server_url: &str, schema: &str) -> String {
    let separator = if server_url.contains('?') { '&' } else { '?' };
    format!("{server_url}{separator}options=-csearch_path%3D{schema}")
}

fn bare(query: &str) -> &str {
    query.trim().trim_end_matches(';')
}
