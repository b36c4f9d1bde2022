//! What the run asks PostgreSQL: one connection that is made again when it broke.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Double, Nullable, Text, Uuid as SqlUuid};
use diesel::{Connection, PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use uuid::Uuid;

/// Rows that one statement adds.
const HISTORY_CHUNK: usize = 250_000;
const HISTORY_WORKER: &str = "00000000-0000-7000-8000-000000000001";

/// A handle; calls follow one another.
#[derive(Clone)]
pub struct Database {
    url: String,
    connection: Arc<Mutex<Option<PgConnection>>>,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

#[derive(QueryableByName)]
struct Word {
    #[diesel(sql_type = Text)]
    value: String,
}

#[derive(QueryableByName)]
struct Status {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    status: String,
}

#[derive(QueryableByName)]
struct Span {
    #[diesel(sql_type = Nullable<Double>)]
    seconds: Option<f64>,
}

impl Database {
    pub fn new(url: String) -> Self {
        Self {
            url,
            connection: Arc::default(),
        }
    }

    /// A statement whose one column is a bigint named `value`.
    pub async fn number(&self, sql: &str) -> Result<u64> {
        let sql = sql.to_owned();
        let number = self
            .run(move |connection| sql_query(&sql).get_result::<Number>(connection))
            .await?;
        Ok(u64::try_from(number.value).unwrap_or(0))
    }

    /// A `SHOW` of a setting.
    pub async fn text(&self, sql: &str) -> Result<String> {
        let setting = sql.trim_start_matches("SHOW ").to_owned();
        let sql = format!("SELECT current_setting('{setting}') AS value");
        let word = self
            .run(move |connection| sql_query(&sql).get_result::<Word>(connection))
            .await?;
        Ok(word.value)
    }

    /// A statement whose one column is a double named `seconds`, or NULL.
    pub async fn seconds(&self, sql: &str) -> Result<Option<f64>> {
        let sql = sql.to_owned();
        let span = self
            .run(move |connection| sql_query(&sql).get_result::<Span>(connection))
            .await?;
        Ok(span.seconds)
    }

    pub async fn execute(&self, sql: &str) -> Result<()> {
        let sql = sql.to_owned();
        self.run(move |connection| connection.batch_execute(&sql))
            .await
    }

    /// Messages that are not confirmed by the broker.
    pub async fn outbox(&self) -> Result<u64> {
        self.number("SELECT count(*) AS value FROM outbox").await
    }

    pub async fn tasks(&self) -> Result<u64> {
        self.number("SELECT count(*) AS value FROM tasks").await
    }

    /// 0 or 1: cheap, also while a million rows are live.
    pub async fn has_live_tasks(&self) -> Result<bool> {
        let sql = "SELECT count(*) AS value FROM (SELECT 1 FROM tasks WHERE finished_at IS NULL LIMIT 1) AS live";
        Ok(self.number(sql).await? > 0)
    }

    /// Tasks whose success is on record.
    pub async fn completed(&self) -> Result<u64> {
        self.number("SELECT count(*) AS value FROM tasks WHERE status = 'COMPLETED'")
            .await
    }

    /// Workers that were taken for dead since the stack was started.
    pub async fn lost_workers(&self) -> Result<u64> {
        self.number("SELECT count(*) AS value FROM workers WHERE state = 'lost'")
            .await
    }

    /// The number of the latest attempt of the task that was tried most often.
    pub async fn highest_attempt(&self) -> Result<u64> {
        self.number("SELECT coalesce(max(attempt), 0)::bigint AS value FROM tasks")
            .await
    }

    /// Every task's status.
    pub async fn statuses(&self) -> Result<BTreeMap<Uuid, String>> {
        let rows = self
            .run(|connection| sql_query("SELECT id, status FROM tasks").load::<Status>(connection))
            .await?;
        Ok(rows.into_iter().map(|row| (row.id, row.status)).collect())
    }

    /// Attempts that are on record as lost or failed and whose outcome was written all the same, not by a person: none,
    /// if the fence holds.
    pub async fn unfenced(&self) -> Result<u64> {
        self.number(
            "SELECT count(*) AS value FROM tasks JOIN task_attempts ON task_id = id
             WHERE tasks.attempt = task_attempts.attempt AND status = 'COMPLETED' AND NOT EXISTS (
                SELECT 1 FROM audit_log WHERE audit_log.task_id = tasks.id AND action = 'task.resolve.completed')",
        )
        .await
    }

    /// Seconds from the first start of a task to the last end.
    pub async fn work_span(&self) -> Result<f64> {
        let sql = "SELECT EXTRACT(EPOCH FROM max(finished_at) - min(started_at))::float8 AS seconds FROM tasks";
        self.seconds(sql).await?.context("no task has run")
    }

    /// Adds so many tasks that were accepted three days ago and are done.
    pub async fn add_history(&self, rows: u64) -> Result<()> {
        for from in (0..rows).step_by(HISTORY_CHUNK) {
            let to = (from + HISTORY_CHUNK as u64).min(rows);
            self.execute(&format!(
                "INSERT INTO tasks (id, kind, queue, priority, status, payload, result, attempt, max_attempts, worker_id,
                    created_at, updated_at, started_at, finished_at, created_by)
                 SELECT (lpad(to_hex(extract(epoch FROM old)::bigint * 1000 + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
                    'email.send', 'mail', 5, 'COMPLETED',
                    json_build_object('to', 'old-' || n || '@example.com', 'subject', 'Your receipt', 'text', repeat('x', 100)),
                    json_build_object('relay', 'default', 'reply', '250 2.0.0 Ok: queued as ' || n),
                    1, 14, '{HISTORY_WORKER}', old, old, old, old, '{HISTORY_WORKER}'
                 FROM generate_series({from}::bigint, {to}::bigint - 1) AS n, (SELECT now() - interval '3 days' AS old) AS time",
            ))
            .await?;
        }
        self.execute("VACUUM (ANALYZE) tasks").await
    }

    /// Deletes every task that [`Database::add_history`] did not make.
    pub async fn keep_history(&self) -> Result<()> {
        self.execute("TRUNCATE outbox, task_attempts, task_output, idempotency_keys")
            .await?;
        self.execute("DELETE FROM tasks WHERE created_at > now() - interval '1 day'")
            .await?;
        self.execute("VACUUM tasks").await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl Fn(&mut PgConnection) -> QueryResult<T> + Send + 'static,
    ) -> Result<T> {
        let Self { url, connection } = self.clone();
        tokio::task::spawn_blocking(move || {
            let mut place = connection.lock().unwrap_or_else(PoisonError::into_inner);
            // A connection that was kept may have died with its server; a fresh one decides.
            if let Some(mut kept) = place.take()
                && let Ok(value) = work(&mut kept)
            {
                *place = Some(kept);
                return Ok(value);
            }
            let mut fresh = PgConnection::establish(&format!("{url}?connect_timeout=5"))
                .context("the run cannot connect to PostgreSQL")?;
            let value = work(&mut fresh).context("the run's query failed")?;
            *place = Some(fresh);
            Ok(value)
        })
        .await?
    }
}
