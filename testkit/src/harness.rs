//! What an integration test stands on: the real PostgreSQL and RabbitMQ, with a schema and a vhost of its own.
//!
//! The servers are shared by all tests of a run and are given by three variables, which `make test` sets
//! (`TEST_DATABASE_URL`, `TEST_AMQP_URL`, `TEST_MANAGEMENT_URL`). A missing server is a failure and never a skip:
//! a test that returns early passes and proves nothing.

mod broker;
mod database;
mod environment;
mod events;
mod wait;

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use self::broker::Observer;
use self::database::Database;
use self::environment::Servers;
use crate::services::{Management, QueueInfo, QueueMessage, RabbitMq};

pub(crate) use broker::observer;
pub use events::{Event, Events, Item};
pub use wait::{wait_for, wait_until};

/// How long the broker's management may take to notice a connection.
const LISTED: Duration = Duration::from_secs(15);

/// One test's schema and vhost. End it with [`TestEnv::finish`]; a test that fails leaves that to `Drop`.
#[derive(Debug)]
pub struct TestEnv {
    /// In libpq's form, with this test's schema as its search path.
    pub database_url: String,
    /// With this test's vhost.
    pub amqp_url: String,
    /// With user and password.
    pub management_url: String,
    pub schema: String,
    pub vhost: String,
    servers: Servers,
    database: Database,
    observer: Observer,
    management: Management,
    is_finished: bool,
}

impl TestEnv {
    /// A fresh schema and vhost, named after the test.
    ///
    /// # Panics
    /// With the remedy, when the servers are not there.
    pub async fn new(test_name: &str) -> Self {
        Self::try_new(test_name)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"))
    }

    pub async fn try_new(test_name: &str) -> Result<Self> {
        Self::among(Servers::from_env()?, test_name).await
    }

    /// With a vhost of a RabbitMQ that the test has started itself.
    ///
    /// # Panics
    /// As [`TestEnv::new`].
    pub async fn on(rabbitmq: &RabbitMq, test_name: &str) -> Self {
        let servers = Servers::from_env().map(|servers| Servers {
            amqp: rabbitmq.amqp_url("/"),
            management: rabbitmq.management_url(),
            ..servers
        });
        ok(Self::among(ok(servers), test_name).await)
    }

    async fn among(servers: Servers, test_name: &str) -> Result<Self> {
        let name = environment::unique_name(test_name);
        let database = Database::create_schema(&servers.database, &name).await?;
        let management = Management::new(&servers.management)?;
        management
            .create_vhost(&name)
            .await
            .context("cannot create the test's vhost; run the tests by `make test`")?;
        let amqp_url = environment::with_vhost(&servers.amqp, &name);
        Ok(Self {
            database_url: database.url().to_owned(),
            observer: Observer::new(&amqp_url),
            amqp_url,
            management_url: servers.management.clone(),
            schema: name.clone(),
            vhost: name,
            servers,
            database,
            management,
            is_finished: false,
        })
    }

    /// Messages ready in the queue, exact and as of now; 0 when there is no such queue.
    pub async fn queue_depth(&self, queue: &str) -> u64 {
        ok(self.observer.depth(queue).await)
    }

    /// The vhost's queues as the broker last sampled them (half a second old under `make test`).
    pub async fn queues(&self) -> Vec<QueueInfo> {
        ok(self.management.queues(&self.vhost).await)
    }

    /// Looks at up to `most` messages at the head of the queue and puts them back.
    pub async fn get_messages(&self, queue: &str, most: usize) -> Vec<QueueMessage> {
        ok(self.management.get_messages(&self.vhost, queue, most).await)
    }

    /// Publishes a message as somebody else would; true when a queue took it.
    pub async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        properties: Value,
        payload: &str,
    ) -> bool {
        ok(self
            .management
            .publish(&self.vhost, exchange, routing_key, properties, payload)
            .await)
    }

    /// Makes a queue that hears what goes to the exchange with that routing key.
    pub async fn bind_queue(&self, queue: &str, exchange: &str, routing_key: &str) {
        ok(self
            .management
            .bind_queue(&self.vhost, queue, exchange, routing_key)
            .await);
    }

    /// Throws away what is ready in a queue, as an operator might.
    pub async fn purge(&self, queue: &str) {
        ok(self.management.purge(&self.vhost, queue).await);
    }

    /// Deletes the vhost with all it holds and makes an empty one of the same name.
    pub async fn recreate_vhost(&self) {
        ok(self.management.delete_vhost(&self.vhost).await);
        ok(self.management.create_vhost(&self.vhost).await);
    }

    /// Closes all AMQP connections into the vhost, waiting until the broker lists at least one; returns how many.
    pub async fn close_connections(&self) -> usize {
        wait_for(
            LISTED,
            "an AMQP connection into the test's vhost",
            async || {
                let closed = ok(self.management.close_connections(Some(&self.vhost)).await);
                (closed > 0).then_some(closed)
            },
        )
        .await
    }

    pub fn management(&self) -> &Management {
        &self.management
    }

    /// The one value that a query of one row and column gives, parsed from its text form.
    ///
    /// # Panics
    /// On an error, on NULL, and where the text is no `T`.
    pub async fn sql<T: std::str::FromStr>(&self, query: &str) -> T {
        self.sql_opt(query)
            .await
            .unwrap_or_else(|| panic!("the query gave NULL or no row: {query}"))
    }

    /// As [`TestEnv::sql`], with `None` for NULL and for no row.
    ///
    /// # Panics
    /// On an error and where the text is no `T`.
    pub async fn sql_opt<T: std::str::FromStr>(&self, query: &str) -> Option<T> {
        let text = ok(self.database.scalar(query).await)?;
        Some(
            text.parse()
                .unwrap_or_else(|_| panic!("{query} gave {text:?}, which does not parse")),
        )
    }

    /// Each row as a JSON object with its columns as keys.
    pub async fn rows(&self, query: &str) -> Vec<Value> {
        ok(self.database.rows(query).await)
    }

    /// Runs one or more statements.
    pub async fn execute(&self, statements: &str) {
        ok(self.database.execute(statements).await);
    }

    /// Polls until the condition holds.
    ///
    /// # Panics
    /// When the time is over: says what was waited for, where, and what queues and tasks look like.
    pub async fn wait_until(
        &self,
        most: Duration,
        what: &str,
        condition: impl AsyncFnMut() -> bool,
    ) {
        if let Err(late) = wait::poll(most, what, condition).await {
            panic!("{late}\n{}", self.describe().await);
        }
    }

    /// Queues and tasks as they are now, in a few lines.
    pub async fn describe(&self) -> String {
        let queues = self
            .management
            .queues(&self.vhost)
            .await
            .unwrap_or_default();
        let counts = "SELECT status::text AS status, count(*) AS tasks FROM tasks GROUP BY 1";
        let tasks = self.database.rows(counts).await.unwrap_or_default();
        let mut text = format!("schema and vhost: {}\n", self.vhost);
        for queue in queues {
            let QueueInfo {
                name,
                messages_ready,
                messages_unacknowledged,
                consumers,
                ..
            } = queue;
            let counts =
                format!("{messages_ready} ready, {messages_unacknowledged} unacknowledged");
            let _ = writeln!(text, "queue {name}: {counts}, {consumers} consumers");
        }
        for row in tasks {
            let _ = writeln!(text, "tasks {}: {}", row["status"], row["tasks"]);
        }
        text
    }

    /// Drops the schema and deletes the vhost.
    ///
    /// # Panics
    /// When that fails.
    pub async fn finish(mut self) {
        self.is_finished = true;
        self.observer.close().await;
        ok(self.management.delete_vhost(&self.vhost).await);
        ok(self.database.drop_schema().await);
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        if !self.is_finished {
            environment::clean_up(&self.servers, &self.schema);
        }
    }
}

#[track_caller]
fn ok<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{error:#}"))
}
