//! The stack under test with what the run needs of it: a key, the database, the sink, and a way back to empty.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use reqwest::Client;
use serde_json::Value;
use testkit::stack::{Service, Stack, StackOptions, VHOST};

use crate::database::Database;
use crate::place::Place;
use crate::sink::Sink;

/// How often a condition is looked at.
pub const POLL: Duration = Duration::from_millis(50);
/// A broker that was down has a lot to catch up with.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);

/// A running stack. Its parts end when it is dropped, and its folder goes after them.
pub struct Rig {
    pub stack: Stack,
    pub database: Database,
    pub sink: Sink,
    pub key: String,
    client: Client,
    /// Emptying leaves the tasks of [`Database::add_history`].
    pub has_history: bool,
    /// The most memory that a worker which has ended had.
    mailer_peak: u64,
    /// Likewise of an api-service.
    api_peak: u64,
    pub place: Place,
}

impl Rig {
    /// Starts api-service, one mailer-service and a sink that keeps little, with the options that `change` sets.
    pub async fn start(keep: bool, change: impl FnOnce(&mut StackOptions)) -> Result<Self> {
        let place = Place::create(keep).await?;
        let mut options = StackOptions::new(place.path());
        options.inbox_args = vec!["--light".to_owned()];
        change(&mut options);
        let stack = Stack::start(options).await.context("starting the stack")?;
        let key = stack.create_api_key("bench").await?;
        Ok(Self {
            database: Database::new(stack.postgres.url()),
            sink: Sink::new(stack.inbox_url())?,
            key,
            client: testkit::http::client(),
            has_history: false,
            mailer_peak: 0,
            api_peak: 0,
            stack,
            place,
        })
    }

    /// The API's address.
    pub fn api(&self) -> Result<SocketAddr> {
        self.stack
            .api_url()
            .trim_start_matches("http://")
            .parse()
            .context("the API's address")
    }

    /// One call of the API by an operator, which must succeed.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let url = format!("{}/api/v1{path}", self.stack.api_url());
        let request = self.client.post(&url).bearer_auth(&self.key).json(body);
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "POST {path}: {status}: {text}");
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("POST {path}: {text}"))
    }

    pub fn mailer(&mut self) -> Result<&mut Service> {
        self.stack.mailers.first_mut().context("no mailer-service")
    }

    /// The most memory that a mailer-service had since the start, in bytes.
    pub fn mailer_peak(&self) -> u64 {
        let now = self.stack.mailers.iter().map(Service::peak_resident_bytes);
        now.max().unwrap_or(0).max(self.mailer_peak)
    }

    /// The most memory that an api-service had so far, in bytes.
    pub fn api_peak(&self) -> u64 {
        self.stack.api.peak_resident_bytes().max(self.api_peak)
    }

    /// A fresh api-service; what the one before used counts among the peaks only if it was at a usual load.
    pub async fn restart_api(&mut self, was_usual: bool) -> Result<()> {
        if was_usual {
            self.api_peak = self.api_peak();
        }
        self.stack.api.terminate().await?;
        self.stack.api.start_again().await
    }

    /// Ends every mailer-service in good order.
    pub async fn stop_mailers(&mut self) -> Result<()> {
        self.mailer_peak = self.mailer_peak();
        for mailer in &mut self.stack.mailers {
            if mailer.is_running() {
                mailer.terminate().await?;
            }
        }
        Ok(())
    }

    pub async fn start_mailer(&mut self) -> Result<()> {
        let mailer = self.mailer()?;
        if !mailer.is_running() {
            mailer.start_again().await?;
        }
        Ok(())
    }

    /// Ends everything in good order.
    pub async fn stop(&mut self) -> Result<()> {
        self.stack.stop().await
    }

    /// Waits until the broker has confirmed every message; how long that took.
    pub async fn wait_until_published(&self) -> Result<Duration> {
        let begin = Instant::now();
        loop {
            let waiting = self.database.outbox().await?;
            if waiting == 0 {
                return Ok(begin.elapsed());
            }
            if begin.elapsed() > DRAIN_LIMIT {
                bail!("{waiting} messages are still in the outbox after {DRAIN_LIMIT:?}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until so many mails have arrived since the sink was emptied.
    pub async fn wait_for_mails(&self, count: u64, limit: Duration) -> Result<()> {
        let begin = Instant::now();
        loop {
            let arrived = self.sink.count().await?;
            if arrived >= count {
                return Ok(());
            }
            if begin.elapsed() > limit {
                bail!("{arrived} of {count} mails arrived within {limit:?}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Deletes every task, message and mail; the mailers must be stopped.
    pub async fn empty(&self) -> Result<()> {
        self.wait_until_published().await?;
        self.forget_tasks().await?;
        let management = self.stack.rabbitmq.management();
        for queue in management.queues(VHOST).await? {
            management.purge(VHOST, &queue.name).await?;
        }
        self.sink.empty().await
    }

    /// Deletes the rows alone, which is all there is while the broker is down.
    pub async fn forget_tasks(&self) -> Result<()> {
        if self.has_history {
            self.database.keep_history().await?;
        } else {
            self.database
                .execute("TRUNCATE tasks, outbox, task_attempts, task_output, task_files, idempotency_keys, verifications, verification_recipients")
                .await?;
        }
        // Outside the measurement, so that none pays for the one before.
        self.database.execute("CHECKPOINT").await
    }
}
