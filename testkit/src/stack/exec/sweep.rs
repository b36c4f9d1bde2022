//! Ends and removes what a `stack exec` that was killed by SIGKILL left behind.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::Signal;

use crate::services::process::{Launch, end_stale};
use crate::services::{Postgres, files, procfs};

/// A run's folder in the temporary folder: this and the pid of its `stack exec`.
pub(super) const PREFIX: &str = "warren-exec-";

/// Best effort: a leftover that can't be ended is left for its user to see.
pub(super) async fn remove_leftovers() {
    let own = rustix::process::geteuid().as_raw();
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|pid| pid.parse().ok());
        let is_own = entry
            .metadata()
            .is_ok_and(|found| found.is_dir() && found.uid() == own);
        if let Some(pid) = pid
            && is_own
            && !procfs::is_alive(pid)
        {
            remove(&entry.path()).await;
        }
    }
}

async fn remove(folder: &Path) {
    for (server, program) in [
        ("rabbitmq", "rabbitmq"),
        ("rabbitmq", "epmd"),
        ("postgres", "postgres"),
    ] {
        let mut launch = Launch::new(program, "", &folder.join(server));
        launch.stop_signal = Signal::QUIT;
        if let Err(error) = end_stale(&launch).await {
            eprintln!("stack: {error:#}");
            return;
        }
    }
    let _ = Postgres::remove_data(&folder.join("postgres"));
    if let Err(error) = files::remove_folder(folder) {
        eprintln!("stack: {error:#}");
    }
}
