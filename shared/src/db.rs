//! The doors to PostgreSQL: a bounded pool for reads of the API, and one plain connection for each batch
//! loop, which lives on a thread of its own and comes back by itself when the database does.

mod pool;

pub use pool::Pool;

use crate::config::Database;
use diesel::{
    Connection, PgConnection, QueryResult, RunQueryDsl,
    connection::SimpleConnection,
    result::{DatabaseErrorKind, Error as DieselError},
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use secrecy::ExposeSecret;
use std::{
    fmt,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");
/// Any number, as long as every replica uses the same: "warren" as digits on a telephone.
const MIGRATION_LOCK: i64 = 927_736;

#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// PostgreSQL is not there; the same call may succeed later.
    #[error("the database can't be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// PostgreSQL refused the statement.
    #[error("the database refused a statement")]
    Refused(#[source] DieselError),
    #[error("the database schema could not be brought up to date")]
    Migration(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn session_settings(config: &Database) -> String {
    format!(
        "SET statement_timeout = {}; SET application_name = 'warren'; SET TIME ZONE 'UTC'",
        config.statement_timeout_ms
    )
}

/// libpq waits for ever by default: for a connection, and on one whose other end has vanished silently.
fn with_timeouts(config: &Database) -> String {
    let mut url = config.url.expose_secret().to_owned();
    let settings = [
        (
            "connect_timeout",
            config.connect_timeout_s.max(2).to_string(),
        ),
        ("keepalives_idle", "10".to_owned()),
        ("keepalives_interval", "5".to_owned()),
        ("keepalives_count", "3".to_owned()),
        // Milliseconds that sent data may stay unacknowledged by the other machine.
        ("tcp_user_timeout", "20000".to_owned()),
    ];
    for (key, value) in settings {
        if !url.contains(key) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.extend([key, "=", &value]);
        }
    }
    url
}

/// One connection that is made when it is needed and dropped when it breaks; for a loop on its own thread.
pub struct Session {
    config: Database,
    settings: String,
    connection: Option<PgConnection>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("connected", &self.connection.is_some())
            .finish_non_exhaustive()
    }
}

impl Session {
    pub fn new(config: &Database) -> Self {
        Self {
            settings: session_settings(config),
            config: config.clone(),
            connection: None,
        }
    }

    /// Commits on this connection don't wait for the disk. Only for what may be done twice.
    #[must_use]
    pub fn without_waiting_for_the_disk(mut self) -> Self {
        self.settings.push_str("; SET synchronous_commit = off");
        self
    }

    /// Statements on this connection find each row by its key. Their plans are made once, often while a table is nearly
    /// empty, when reading all of it looks as good; a busy hour later it is not.
    #[must_use]
    pub fn by_key(mut self) -> Self {
        for method in ["hashjoin", "mergejoin", "seqscan", "bitmapscan"] {
            self.settings.push_str("; SET enable_");
            self.settings.push_str(method);
            self.settings.push_str(" = off");
        }
        self
    }

    /// Runs `work`; a connection that broke is dropped, and the next call makes a new one.
    pub fn run<T>(
        &mut self,
        work: impl FnOnce(&mut PgConnection) -> QueryResult<T>,
    ) -> Result<T, DbError> {
        let unavailable = |error: diesel::ConnectionError| DbError::Unavailable(Box::new(error));
        let mut connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            let mut fresh =
                PgConnection::establish(&with_timeouts(&self.config)).map_err(unavailable)?;
            fresh
                .batch_execute(&self.settings)
                .map_err(|error| DbError::Unavailable(Box::new(error)))?;
            fresh
        };
        let outcome = work(&mut connection);
        match outcome {
            Ok(value) => {
                self.connection = Some(connection);
                Ok(value)
            }
            // After a failover this may be yesterday's primary: a fresh connection finds the present one.
            Err(error) if is_read_only(&error) => Err(DbError::Unavailable(Box::new(error))),
            // libpq has no code for "the connection is gone" that covers every way it goes, so ask it.
            Err(error)
                if !is_disconnect(&error)
                    && diesel::sql_query("SELECT 1")
                        .execute(&mut connection)
                        .is_ok() =>
            {
                self.connection = Some(connection);
                Err(DbError::Refused(error))
            }
            Err(error) => Err(DbError::Unavailable(Box::new(error))),
        }
    }

    /// Like [`Session::run`], but waits for the database; `None` when `stop` came first. Only an error that lies in the
    /// values (see [`is_about_data`]) is returned: a full disk, a failover or a cancelled statement passes, and what is
    /// to be written must not be given up for it.
    pub fn run_until<T>(
        &mut self,
        stop: &CancellationToken,
        what: &str,
        mut work: impl FnMut(&mut PgConnection) -> QueryResult<T>,
    ) -> Option<Result<T, DieselError>> {
        let mut outage: Option<Instant> = None;
        let mut wait = Duration::from_millis(50);
        loop {
            match self.run(&mut work) {
                Ok(value) => {
                    if let Some(since) = outage {
                        tracing::info!(
                            "the database is back after {:.1?}, {what} goes on",
                            since.elapsed()
                        );
                    }
                    return Some(Ok(value));
                }
                Err(DbError::Refused(error)) if is_about_data(&error) => return Some(Err(error)),
                Err(error) => {
                    if outage.is_none() {
                        outage = Some(Instant::now());
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "{what} waits for the database"
                        );
                    }
                }
            }
            if stop.is_cancelled() {
                return None;
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(Duration::from_secs(1));
        }
    }
}

fn is_disconnect(error: &DieselError) -> bool {
    use DatabaseErrorKind::{ClosedConnection, UnableToSendCommand};
    matches!(
        error,
        DieselError::BrokenTransactionManager
            | DieselError::DatabaseError(ClosedConnection | UnableToSendCommand, _)
    )
}

pub(crate) fn is_read_only(error: &DieselError) -> bool {
    matches!(
        error,
        DieselError::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _)
    )
}

/// The same values would be refused again: a constraint, or a text that PostgreSQL can't read. Whatever is not known to
/// be of this sort is not. (diesel does not tell SQLSTATE, so some are known by the words of an English server; values
/// that need them don't get past the API.)
pub fn is_about_data(error: &DieselError) -> bool {
    use DatabaseErrorKind::{
        CheckViolation, ExclusionViolation, ForeignKeyViolation, NotNullViolation,
        RestrictViolation, UniqueViolation,
    };
    const WORDS: [&str; 8] = [
        "invalid input syntax",
        "invalid byte sequence",
        "unsupported Unicode escape sequence",
        "out of range",
        "value too long",
        "cannot affect row a second time",
        "stack depth limit exceeded",
        "invalid memory alloc request size",
    ];
    match error {
        DieselError::DatabaseError(
            CheckViolation | ExclusionViolation | ForeignKeyViolation | NotNullViolation
            | RestrictViolation | UniqueViolation,
            _,
        )
        | DieselError::SerializationError(_)
        | DieselError::DeserializationError(_)
        | DieselError::QueryBuilderError(_)
        | DieselError::InvalidCString(_)
        | DieselError::NotFound => true,
        DieselError::DatabaseError(_, details) => {
            WORDS.iter().any(|words| details.message().contains(words))
        }
        _ => false,
    }
}

/// Known to pass: another transaction was in the way, the disk is full, this is no longer the primary.
pub fn is_passing(error: &DieselError) -> bool {
    match error {
        DieselError::DatabaseError(
            DatabaseErrorKind::SerializationFailure | DatabaseErrorKind::ReadOnlyTransaction,
            _,
        ) => true,
        DieselError::DatabaseError(_, details) => {
            details.message().contains("deadlock detected")
                || details.message().contains("statement timeout")
                || details.message().contains("too many connections")
                || details.message().contains("No space left on device")
        }
        _ => false,
    }
}

/// Brings the schema up to date. Several processes may call it at once: an advisory lock lets one through.
pub fn migrate(connection: &mut PgConnection) -> Result<usize, DbError> {
    let refused = DbError::Refused;
    connection
        .batch_execute("SET statement_timeout = 0; SET client_min_messages = warning")
        .map_err(refused)?;
    connection
        .batch_execute(&format!("SELECT pg_advisory_lock({MIGRATION_LOCK})"))
        .map_err(refused)?;
    let applied = connection
        .run_pending_migrations(MIGRATIONS)
        .map(|applied| applied.len())
        .map_err(DbError::Migration);
    connection
        .batch_execute(&format!("SELECT pg_advisory_unlock({MIGRATION_LOCK})"))
        .map_err(refused)?;
    applied
}

/// The names of migrations that the database does not have yet.
pub fn pending_migrations(connection: &mut PgConnection) -> Result<Vec<String>, DbError> {
    let pending = connection
        .pending_migrations(MIGRATIONS)
        .map_err(DbError::Migration)?;
    Ok(pending
        .iter()
        .map(|migration| migration.name().to_string())
        .collect())
}

/// Waits for the database, then migrates; returns false when `stop` came first.
pub fn migrate_when_ready(config: &Database, stop: &CancellationToken) -> Result<bool, DbError> {
    let mut said = false;
    loop {
        let attempt = PgConnection::establish(&with_timeouts(config))
            .map_err(|error| DbError::Unavailable(Box::new(error)))
            .and_then(|mut connection| migrate(&mut connection));
        match attempt {
            Ok(applied) => {
                tracing::info!("the database schema is up to date, {applied} migrations applied");
                return Ok(true);
            }
            Err(error @ DbError::Migration(_)) => return Err(error),
            Err(error) => {
                if !said {
                    said = true;
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "waiting for the database"
                    );
                }
            }
        }
        if stop.is_cancelled() {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}
