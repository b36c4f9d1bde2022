//! One long-lived program in a process group of its own, with its log and its pid on file.
//!
//! The group keeps a Ctrl-C at the terminal away from it: its owner decides when it ends, and in which order. The
//! pid file is for the owner that was killed: whoever starts the program on the same folder again first ends what
//! was left behind ([`end_stale`]).

mod launch;
mod stale;

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{files, procfs};
pub use launch::Launch;
pub use stale::end_stale;

const POLL: Duration = Duration::from_millis(10);

/// A started program. Dropping it ends it: at once, or in good order where [`Launch::drop_grace`] gives it time.
#[derive(Debug)]
pub struct Process {
    launch: Launch,
    child: Child,
    exit: Option<ExitStatus>,
}

impl Process {
    /// Starts the program; its output is appended to its log. What an owner that was killed left running for the
    /// same folder is ended first.
    pub async fn spawn(launch: Launch) -> Result<Self> {
        end_stale(&launch).await?;
        let log = launch.open_log()?;
        let child = launch
            .command()
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| {
                format!(
                    "cannot start {} ({})",
                    launch.name,
                    launch.program.display()
                )
            })?;
        let process = Self {
            launch,
            child,
            exit: None,
        };
        files::write(
            &process.launch.pid_path(),
            0o644,
            &stale::record(process.pid()),
        )?;
        Ok(process)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn name(&self) -> &str {
        &self.launch.name
    }

    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    pub fn log_path(&self) -> PathBuf {
        self.launch.log_path()
    }

    pub fn log_tail(&self, lines: usize) -> String {
        files::tail(&self.log_path(), lines)
    }

    pub fn is_running(&mut self) -> bool {
        self.exit_status().is_none()
    }

    /// How it ended, once it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().unwrap_or_default();
            if self.exit.is_some() {
                let _ = fs::remove_file(self.launch.pid_path());
            }
        }
        self.exit
    }

    /// Waits for the end, at most so long.
    pub async fn wait(&mut self, most: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            let exit = self.exit_status();
            if exit.is_some() || start.elapsed() >= most {
                return exit;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends it in good order: its stop signal, and after the grace time what [`Process::kill9`] does.
    pub async fn stop(&mut self, grace: Duration) -> Result<ExitStatus> {
        if self.is_running() {
            // A frozen program would take note of nothing.
            self.thaw();
            self.signal(self.launch.stop_signal);
        }
        match self.wait(grace).await {
            Some(exit) => Ok(exit),
            None => self.kill9().await,
        }
    }

    /// SIGKILL to the program and everything it has started, as a power cut would; returns when all are gone.
    pub async fn kill9(&mut self) -> Result<ExitStatus> {
        let tree = self.kill_tree();
        let Some(exit) = self.wait(Duration::from_secs(10)).await else {
            bail!(
                "{} (pid {}) does not end even by SIGKILL: see its state with `ps`",
                self.name(),
                self.pid()
            );
        };
        let start = Instant::now();
        while tree.iter().any(|pid| procfs::is_alive(*pid))
            && start.elapsed() < Duration::from_secs(5)
        {
            tokio::time::sleep(POLL).await;
        }
        Ok(exit)
    }

    /// Stops the program and all its children in their tracks (SIGSTOP): alive, connected, silent.
    pub fn freeze(&self) {
        signal_all(&self.tree(), Signal::STOP);
    }

    /// Lets a frozen program go on.
    pub fn thaw(&self) {
        signal_all(&self.tree(), Signal::CONT);
    }

    pub fn signal(&self, signal: Signal) {
        signal_all(&[self.pid()], signal);
    }

    /// Resident memory in bytes, 0 when it is gone.
    pub fn resident_bytes(&self) -> u64 {
        procfs::resident_bytes(self.pid()).unwrap_or(0)
    }

    fn tree(&self) -> Vec<u32> {
        let mut tree = vec![self.pid()];
        tree.extend(procfs::descendants(self.pid()));
        tree
    }

    fn kill_tree(&mut self) -> Vec<u32> {
        if !self.is_running() {
            return Vec::new();
        }
        let tree = self.tree();
        signal_all(&tree, Signal::KILL);
        tree
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_running() {
            return;
        }
        if !self.launch.drop_grace.is_zero() {
            self.thaw();
            self.signal(self.launch.stop_signal);
            let start = Instant::now();
            while self.is_running() && start.elapsed() < self.launch.drop_grace {
                std::thread::sleep(POLL);
            }
        }
        if !self.kill_tree().is_empty() {
            let _ = self.child.wait();
            let _ = fs::remove_file(self.launch.pid_path());
        }
    }
}

/// An exit status in words: `exited with code 3`, `killed by signal 9`.
pub fn describe_exit(exit: ExitStatus) -> String {
    match (exit.code(), exit.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

pub(crate) fn signal_all(pids: &[u32], signal: Signal) {
    for pid in pids {
        if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
            // Gone already is as good.
            let _ = kill_process(pid, signal);
        }
    }
}
