//! A private RabbitMQ: one node with its own epmd, ports, cookie, data and administrator.
//!
//! It runs on the `rabbitmq.conf` at the root of the checkout, the one that every way of running uses; only ports
//! and folders come on top. Its users and vhosts are in a definitions file that is loaded at each start, so the
//! same URLs work after its data was deleted.

mod alarm;
mod configuration;
mod epmd;
mod layout;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::configuration::Ports;
use self::layout::Layout;
use super::process::{Launch, Process, describe_exit};
use super::{Credentials, Management, QueueTotals, files};

const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// How the instance is to be; the default suits `make run` and fault runs.
#[derive(Debug, Clone)]
pub struct RabbitMqOptions {
    /// For AMQP: taken if free, else the next free one above it.
    pub port: Option<u16>,
    /// For the management UI and API, likewise.
    pub management_port: Option<u16>,
    /// How old the counts of the management API may be.
    pub statistics_interval: Duration,
    /// Lines for `rabbitmq.conf` beyond, or instead of, the usual ones.
    pub settings: Vec<(String, String)>,
}

impl Default for RabbitMqOptions {
    fn default() -> Self {
        Self {
            port: None,
            management_port: None,
            statistics_interval: Duration::from_secs(5),
            settings: Vec::new(),
        }
    }
}

/// A running instance, or one that was stopped and can start again. Dropping it ends it.
#[derive(Debug)]
pub struct RabbitMq {
    folder: PathBuf,
    ports: Ports,
    credentials: Credentials,
    management: Management,
    node: Process,
    epmd: Process,
}

impl RabbitMq {
    /// Starts an instance on the folder, which is created when absent. Takes 7 to 22 seconds.
    pub async fn start(folder: impl AsRef<Path>, options: RabbitMqOptions) -> Result<Self> {
        let folder = files::create_folder(folder.as_ref())?;
        let layout = Layout::find()?;
        let credentials = Credentials::of_folder(&folder, "warren")?;
        // Whatever an owner that was killed left behind still holds the ports that are chosen next.
        super::process::end_stale(&Launch::new("rabbitmq", "", &folder)).await?;
        super::process::end_stale(&Launch::new("epmd", "", &folder)).await?;
        let ports = Ports::of_folder(&folder, &options)?;
        configuration::write(&folder, &ports, &credentials, &options)?;
        configuration::wipe_half_made(&folder)?;
        let management = Management::new(&management_url(&ports, &credentials))?;

        let epmd = epmd::start(&layout, &folder, ports.epmd).await?;
        let launch = configuration::launch(&layout, &folder, &ports);
        let node = Process::spawn(launch).await?;
        let mut rabbitmq = Self {
            folder,
            ports,
            credentials,
            management,
            node,
            epmd,
        };
        rabbitmq.wait_until_ready().await?;
        Ok(rabbitmq)
    }

    /// The AMQP URL of a vhost; `/` is the default one, `warren` is there too.
    pub fn amqp_url(&self, vhost: &str) -> String {
        let Credentials { user, password } = &self.credentials;
        let vhost = vhost.replace('/', "%2f");
        format!(
            "amqp://{user}:{password}@127.0.0.1:{}/{vhost}",
            self.ports.amqp
        )
    }

    /// With user and password; the UI and the API.
    pub fn management_url(&self) -> String {
        management_url(&self.ports, &self.credentials)
    }

    /// Metrics for Prometheus.
    pub fn metrics_url(&self) -> String {
        format!("http://127.0.0.1:{}/metrics", self.ports.prometheus)
    }

    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    pub fn management_port(&self) -> u16 {
        self.ports.management
    }

    pub fn management(&self) -> &Management {
        &self.management
    }

    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn log_path(&self) -> PathBuf {
        configuration::log_path(&self.folder)
    }

    pub fn log_tail(&self, lines: usize) -> String {
        // What goes wrong before the log is open, or takes the whole VM down, is printed instead.
        let written = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
        let (log, printed) = (self.log_path(), self.node.log_path());
        files::tail(
            if written(&log) >= written(&printed) {
                &log
            } else {
                &printed
            },
            lines,
        )
    }

    /// The Erlang VM itself.
    pub fn pid(&self) -> u32 {
        self.node.pid()
    }

    pub fn resident_bytes(&self) -> u64 {
        self.node.resident_bytes()
    }

    pub fn is_running(&mut self) -> bool {
        self.node.is_running()
    }

    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.node.exit_status()
    }

    /// Ends the node in good order, then its epmd.
    pub async fn stop(&mut self) -> Result<()> {
        self.node.stop(STOP_LIMIT).await?;
        self.epmd.stop(STOP_LIMIT).await?;
        Ok(())
    }

    /// SIGKILL to the VM, as a crash of the machine's memory would; epmd lives on, as it does then.
    pub async fn kill9(&mut self) -> Result<()> {
        self.node.kill9().await.map(|_| ())
    }

    /// SIGSTOP to the VM: connections stay open and nothing is answered.
    pub fn freeze(&self) {
        self.node.freeze();
    }

    pub fn thaw(&self) {
        self.node.thaw();
    }

    /// Starts the stopped instance on what is left of its data and on the same ports.
    pub async fn start_again(&mut self) -> Result<()> {
        if self.node.is_running() {
            bail!(
                "RabbitMQ still runs (pid {}): stop it before starting it again",
                self.pid()
            );
        }
        if !self.epmd.is_running() {
            self.epmd = epmd::start(&Layout::find()?, &self.folder, self.ports.epmd).await?;
        }
        self.node = Process::spawn(self.node.launch().clone()).await?;
        self.wait_until_ready().await
    }

    /// Deletes everything the stopped broker has stored: queues, messages, users, all. The definitions bring users,
    /// vhosts and policies back at the next start.
    pub fn wipe_data(&mut self) -> Result<()> {
        if self.node.is_running() {
            bail!(
                "RabbitMQ still runs (pid {}): stop or kill it before deleting its data",
                self.pid()
            );
        }
        configuration::wipe(&self.folder)
    }

    /// Closes every client connection the broker has listed; returns how many.
    pub async fn close_all_connections(&self) -> Result<usize> {
        self.management.close_connections(None).await
    }

    pub async fn create_vhost(&self, name: &str) -> Result<()> {
        self.management.create_vhost(name).await
    }

    pub async fn delete_vhost(&self, name: &str) -> Result<()> {
        self.management.delete_vhost(name).await
    }

    pub async fn queue_totals(&self, vhost: &str) -> Result<QueueTotals> {
        self.management.queue_totals(vhost).await
    }

    /// Ends the instance at once and deletes its folder.
    pub async fn discard(mut self) -> Result<()> {
        self.node.kill9().await?;
        self.epmd.kill9().await?;
        self.ports.release();
        files::remove_folder(&self.folder)
    }

    /// Ready is: the API knows our user, the vhosts are up, and AMQP, which opens last, is answered.
    async fn wait_until_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        while !self.is_ready().await {
            if let Some(exit) = self.node.exit_status().or_else(|| self.epmd.exit_status()) {
                bail!(
                    "RabbitMQ {} at its start{}",
                    describe_exit(exit),
                    self.log_note()
                );
            }
            if start.elapsed() > START_LIMIT {
                bail!(
                    "RabbitMQ is not ready after {START_LIMIT:?}{}",
                    self.log_note()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        configuration::mark_booted(&self.folder)
    }

    async fn is_ready(&self) -> bool {
        tokio::net::TcpStream::connect(("127.0.0.1", self.ports.amqp))
            .await
            .is_ok()
            && self.management.is_up().await
            && self
                .management
                .get::<serde_json::Value>(&["health", "checks", "virtual-hosts"])
                .await
                .is_ok()
            && self.speaks_amqp().await.is_ok()
    }

    async fn speaks_amqp(&self) -> Result<()> {
        let url = self.amqp_url("/");
        let connect = lapin::Connection::connect(&url, crate::harness::observer());
        let connection = tokio::time::timeout(Duration::from_secs(5), connect).await??;
        connection
            .close(0, "ready".into())
            .await
            .context("closing the probe")
    }

    fn log_note(&self) -> String {
        let tail = self.log_tail(20);
        let log = self.log_path();
        // RabbitMQ says this once, far above its stack traces.
        let whole = std::fs::read_to_string(self.folder.join("rabbitmq.log")).unwrap_or_default();
        let remedy = if whole.contains("required feature flag not enabled") {
            format!(
                "\nIts data are of an earlier version that this one does not read. Delete {} and start again: nothing \
                 is lost, Warren fills the queues anew from PostgreSQL.",
                self.folder.display()
            )
        } else {
            String::new()
        };
        format!(". The end of its log {}:\n{tail}{remedy}", log.display())
    }
}

fn management_url(ports: &Ports, credentials: &Credentials) -> String {
    format!(
        "http://{}:{}@127.0.0.1:{}",
        credentials.user, credentials.password, ports.management
    )
}
