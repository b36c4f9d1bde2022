//! The bounded pool for the API's reads, and for what operators do.

use super::{DbError, is_read_only, session_settings, with_timeouts};
use crate::config::Database;
use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    connection::SimpleConnection,
    r2d2::{ConnectionManager, CustomizeConnection},
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// The API's pool; the only way to it is [`Pool::run`], which keeps blocking work off the async threads.
#[derive(Clone)]
pub struct Pool {
    connections: diesel::r2d2::Pool<ConnectionManager<PgConnection>>,
    places: Arc<Semaphore>,
    timeout: Duration,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("state", &self.connections.state())
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Customize(String);

impl CustomizeConnection<PgConnection, diesel::r2d2::Error> for Customize {
    fn on_acquire(&self, connection: &mut PgConnection) -> Result<(), diesel::r2d2::Error> {
        connection
            .batch_execute(&self.0)
            .map_err(diesel::r2d2::Error::QueryError)
    }
}

impl Pool {
    /// Makes no connection yet, so a service can start before its database.
    pub fn new(config: &Database) -> Self {
        let timeout = Duration::from_millis(config.pool_timeout_ms);
        let size = config.pool_size.max(1);
        let connections = diesel::r2d2::Pool::builder()
            .max_size(size)
            .min_idle(Some(0))
            .connection_timeout(timeout)
            .test_on_check_out(true)
            .connection_customizer(Box::new(Customize(session_settings(config))))
            .build_unchecked(ConnectionManager::new(with_timeouts(config)));
        Self {
            connections,
            places: Arc::new(Semaphore::new(size as usize)),
            timeout,
        }
    }

    /// Runs `work` with a connection, on a thread where blocking is allowed.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one door to the pool"
    )]
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut PgConnection) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, DbError> {
        let unavailable =
            |error: Box<dyn std::error::Error + Send + Sync>| DbError::Unavailable(error);
        // Waiting here instead of in the pool: a waiting request holds no thread.
        let place = tokio::time::timeout(self.timeout, Arc::clone(&self.places).acquire_owned())
            .await
            .map_err(|elapsed| unavailable(Box::new(elapsed)))?
            .map_err(|closed| unavailable(Box::new(closed)))?;
        let connections = self.connections.clone();
        tokio::task::spawn_blocking(move || {
            let _place = place;
            let mut connection = connections
                .get()
                .map_err(|error| DbError::Unavailable(Box::new(error)))?;
            work(&mut connection).map_err(|error| {
                // Yesterday's primary: ended, so that the pool makes a connection to today's.
                if is_read_only(&error) {
                    let end = diesel::sql_query("SELECT pg_terminate_backend(pg_backend_pid())");
                    let _ended = end.execute(&mut *connection);
                }
                DbError::Refused(error)
            })
        })
        .await
        .map_err(|error| unavailable(Box::new(error)))?
    }
}
