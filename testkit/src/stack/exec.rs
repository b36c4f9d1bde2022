//! `stack exec`: a command between the start and the end of two private servers.
//!
//! What must stay true: on every path, Ctrl-C and SIGTERM included, the servers end and their folder goes. Only
//! SIGKILL leaves them; the next `stack exec` sweeps up what such a run left.

mod sweep;

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::services::process::signal_all;
use crate::services::{Postgres, PostgresOptions, RabbitMq, RabbitMqOptions, files, procfs};

/// How long the command may take to end after it was told to.
const GRACE: Duration = Duration::from_secs(10);

/// Starts the servers, runs the command with the `TEST_*` variables, ends the servers; the command's exit code.
pub async fn exec(command: &[OsString]) -> Result<u8> {
    let [program, arguments @ ..] = command else {
        bail!("no command: stack exec -- CMD [ARG…]")
    };
    sweep::remove_leftovers().await;
    let folder = Folder::create()?;
    let mut stop = Stop::listen()?;
    let servers = tokio::select! {
        servers = start(&folder.0) => servers,
        signal = stop.requested() => Err(anyhow::anyhow!("stopped by {} while the servers started", name(signal))),
    };
    // After a failure the servers that did start have ended with their values; the folder is removed on return.
    let (postgres, rabbitmq) = servers?;

    let mut child = Command::new(program)
        .args(arguments)
        .env("TEST_DATABASE_URL", postgres.url())
        .env("TEST_AMQP_URL", rabbitmq.amqp_url("/"))
        .env("TEST_MANAGEMENT_URL", rabbitmq.management_url())
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let exit = wait_or_stop(&mut child, &mut stop).await;
    let (rabbitmq, postgres) = tokio::join!(rabbitmq.discard(), postgres.discard());
    rabbitmq.and(postgres)?;
    Ok(code(exit?))
}

async fn start(folder: &Path) -> Result<(Postgres, RabbitMq)> {
    let options = RabbitMqOptions {
        statistics_interval: Duration::from_millis(500),
        ..RabbitMqOptions::default()
    };
    tokio::try_join!(
        Postgres::start(folder.join("postgres"), PostgresOptions::default()),
        RabbitMq::start(folder.join("rabbitmq"), options),
    )
}

async fn wait_or_stop(child: &mut Child, stop: &mut Stop) -> Result<ExitStatus> {
    let signal = tokio::select! {
        exit = child.wait() => return Ok(exit?),
        signal = stop.requested() => signal,
    };
    // Ctrl-C at a terminal has reached the command as well; a signal sent to this process alone has not.
    let tree = || {
        let pid = child.id()?;
        let mut tree = procfs::descendants(pid);
        tree.push(pid);
        Some(tree)
    };
    signal_all(&tree().unwrap_or_default(), signal);
    if let Ok(exit) = tokio::time::timeout(GRACE, child.wait()).await {
        return Ok(exit?);
    }
    let tree = procfs::descendants(child.id().unwrap_or(0));
    child.start_kill()?;
    signal_all(&tree, Signal::KILL);
    Ok(child.wait().await?)
}

/// A shell's convention: 128 and the signal's number.
fn code(exit: ExitStatus) -> u8 {
    let code = exit
        .code()
        .or_else(|| exit.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

fn name(signal: Signal) -> &'static str {
    if signal == Signal::INT {
        "Ctrl-C"
    } else {
        "SIGTERM"
    }
}

/// The wish to end, from the terminal or from another process.
pub(crate) struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Stop {
    pub(crate) fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    pub(crate) async fn requested(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hang_up.recv() => Signal::TERM,
        }
    }
}

/// The run's folder, named after this process and removed with the value.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self> {
        let owner = std::process::id();
        let path = std::env::temp_dir().join(format!("{}{owner}", sweep::PREFIX));
        files::remove_folder(&path)?;
        Ok(Self(files::create_folder(&path)?))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // PostgreSQL's data may lie elsewhere.
        let _ = Postgres::remove_data(&self.0.join("postgres"));
        let _ = fs::remove_dir_all(&self.0);
    }
}
