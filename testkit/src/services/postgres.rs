//! A private PostgreSQL: one data folder, one port, one superuser `warren` with a random password.
//!
//! It is set up for a small machine and for the truth: `fsync` stays on, since a benchmark without it would measure
//! something that Warren does not promise.

mod cluster;
mod locate;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use diesel::{Connection, PgConnection, RunQueryDsl};
use rustix::process::Signal;

use super::ports::KeptPorts;
use super::process::{Launch, Process, describe_exit};
use super::{Credentials, files, place};

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// How the instance is to be; the default suits tests and development.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Taken if free, else the next free one above it.
    pub port: Option<u16>,
    /// Created at the first start.
    pub database: String,
    /// Server settings beyond, or instead of, the usual ones.
    pub settings: Vec<(String, String)>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            port: None,
            database: "warren".to_owned(),
            settings: Vec::new(),
        }
    }
}

/// A running instance, or one that was stopped and can start again. Dropping it ends it.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    ports: KeptPorts,
    credentials: Credentials,
    options: PostgresOptions,
    launch: Launch,
    process: Process,
}

impl Postgres {
    /// Starts an instance on the folder, which is created, and its cluster with it, when absent.
    pub async fn start(folder: impl AsRef<Path>, options: PostgresOptions) -> Result<Self> {
        let folder = files::create_folder(folder.as_ref())?;
        let credentials = Credentials::of_folder(&folder, "warren")?;
        let run_as = place::run_as()?;
        let home = place::private_folder(&folder, run_as)?;
        let data = home.join("data");
        let bin = locate::bin_folder(&data)?;

        let mut launch = Launch::new("postgres", bin.join("postgres"), &folder);
        launch.user = run_as;
        launch.working_dir = Some(home.clone());
        // "Fast": sessions are ended, transactions rolled back, the data is left clean.
        launch.stop_signal = Signal::INT;
        launch.drop_grace = Duration::from_secs(5);
        launch.env_without = vec!["PG"];
        super::process::end_stale(&launch).await?;
        cluster::create(&home, &bin, &credentials, &launch).await?;

        let mut ports = KeptPorts::of_folder(&folder);
        let port = ports.take("postgres", options.port)?;
        launch.args = cluster::arguments(&data, port, &options.settings);
        let process = Process::spawn(launch.clone()).await?;
        let mut postgres = Self {
            folder,
            port,
            ports,
            credentials,
            options,
            launch,
            process,
        };
        postgres.wait_until_ready().await?;
        Ok(postgres)
    }

    /// The URL of the instance's database, in libpq's form.
    pub fn url(&self) -> String {
        self.database_url(&self.options.database)
    }

    pub fn database_url(&self, database: &str) -> String {
        let Credentials { user, password } = &self.credentials;
        format!(
            "postgres://{user}:{password}@127.0.0.1:{}/{database}",
            self.port
        )
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn log_path(&self) -> PathBuf {
        self.launch.log_path()
    }

    pub fn log_tail(&self, lines: usize) -> String {
        self.process.log_tail(lines)
    }

    /// The postmaster.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    /// Ends the instance in good order.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop(STOP_LIMIT).await.map(|_| ())
    }

    /// SIGKILL to the postmaster and every backend.
    pub async fn kill9(&mut self) -> Result<()> {
        self.process.kill9().await.map(|_| ())
    }

    /// SIGSTOP to the postmaster and every backend: connected, silent.
    pub fn freeze(&self) {
        self.process.freeze();
    }

    pub fn thaw(&self) {
        self.process.thaw();
    }

    /// Sets a variable for the next start.
    pub fn set_env(&mut self, key: &str, value: &str) {
        self.launch.env.retain(|(name, _)| name != key);
        self.launch.env.push((key.into(), value.into()));
    }

    /// Starts the stopped instance on the same data and the same port.
    pub async fn start_again(&mut self) -> Result<()> {
        if self.process.is_running() {
            bail!(
                "PostgreSQL still runs (pid {}): stop it before starting it again",
                self.pid()
            );
        }
        self.process = Process::spawn(self.launch.clone()).await?;
        self.wait_until_ready().await
    }

    /// Ends the instance at once and deletes its folder.
    pub async fn discard(mut self) -> Result<()> {
        self.process.stop(Duration::from_secs(3)).await?;
        self.ports.release();
        Self::remove_data(&self.folder)?;
        files::remove_folder(&self.folder)
    }

    /// Deletes the data of a stopped instance, wherever it lies.
    pub fn remove_data(folder: &Path) -> Result<()> {
        place::remove_private_folder(folder)
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        let url = self.database_url("postgres");
        let database = self.options.database.clone();
        loop {
            let (url, database) = (url.clone(), database.clone());
            let last =
                match tokio::task::spawn_blocking(move || connect_and_create(&url, &database))
                    .await?
                {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                };
            if let Some(exit) = self.process.exit_status() {
                bail!(
                    "PostgreSQL {} at its start{}",
                    describe_exit(exit),
                    self.log_note()
                );
            }
            if start.elapsed() > START_LIMIT {
                return Err(last).context(format!(
                    "PostgreSQL is not ready after {START_LIMIT:?}{}",
                    self.log_note()
                ));
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    fn log_note(&self) -> String {
        format!(
            ". The end of its log {}:\n{}",
            self.log_path().display(),
            self.log_tail(15)
        )
    }
}

fn connect_and_create(url: &str, database: &str) -> Result<()> {
    let mut connection = PgConnection::establish(&format!("{url}?connect_timeout=3"))?;
    let query = diesel::sql_query("SELECT 1 FROM pg_database WHERE datname = $1");
    let present = query
        .bind::<diesel::sql_types::Text, _>(database)
        .execute(&mut connection)?;
    if present == 0 {
        let quoted = database.replace('"', "\"\"");
        diesel::sql_query(format!("CREATE DATABASE \"{quoted}\"")).execute(&mut connection)?;
    }
    Ok(())
}
