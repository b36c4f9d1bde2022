//! How a program is started: its command line, environment, user, and where its log goes.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

/// The variable that marks every program with the folder it was started for.
const MARK: &str = "TESTKIT_FOLDER";
const LARGE_LOG: u64 = 16 * 1024 * 1024;

/// How to start a program.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Names the log and the pid file in the folder.
    pub name: String,
    pub program: PathBuf,
    pub args: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
    /// Inherited variables that begin so are taken away, lest another instance's settings leak in.
    pub env_without: Vec<&'static str>,
    /// Run as this user and group (needs root).
    pub user: Option<(u32, u32)>,
    pub working_dir: Option<PathBuf>,
    /// Where log and pid file go; absolute.
    pub folder: PathBuf,
    /// The signal that ends it in good order.
    pub stop_signal: Signal,
    /// How long a dropped process may take to end so, before it is killed.
    pub drop_grace: Duration,
}

impl Launch {
    pub fn new(name: &str, program: impl Into<PathBuf>, folder: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            env_without: Vec::new(),
            user: None,
            working_dir: None,
            folder: folder.to_owned(),
            stop_signal: Signal::TERM,
            drop_grace: Duration::ZERO,
        }
    }

    #[must_use]
    pub fn args<T: Into<OsString>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    pub fn log_path(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    pub(crate) fn pid_path(&self) -> PathBuf {
        self.folder.join(format!("{}.pid", self.name))
    }

    /// The log, opened for appending; one that has grown large is put aside first.
    pub(super) fn open_log(&self) -> Result<File> {
        let path = self.log_path();
        if path.metadata().is_ok_and(|found| found.len() > LARGE_LOG) {
            let _ = fs::rename(&path, path.with_extension("log.old"));
        }
        let log = OpenOptions::new().create(true).append(true).open(&path);
        log.with_context(|| format!("cannot write the log {}", path.display()))
    }

    /// The command with this environment, user and mark; input from nowhere.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for (key, _) in std::env::vars_os() {
            let name = key.as_encoded_bytes();
            if self
                .env_without
                .iter()
                .any(|prefix| name.starts_with(prefix.as_bytes()))
            {
                command.env_remove(&key);
            }
        }
        command
            .args(&self.args)
            .env(MARK, &self.folder)
            .stdin(Stdio::null());
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        if let Some(folder) = &self.working_dir {
            command.current_dir(folder);
        }
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }
}
