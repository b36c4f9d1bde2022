//! The folder of a run: named after this process, removed with the value, swept up later if this process was killed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use testkit::services::process::{Launch, end_stale};
use testkit::services::{Postgres, procfs};

const PREFIX: &str = "warren-bench-";
/// Marks a folder that somebody wants to look at.
const KEPT: &str = "kept";
/// Of this process's folders, the next.
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// The folder; must be dropped after everything that runs in it.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    keep: bool,
}

impl Place {
    /// A fresh folder in the system's temporary folder; `keep` leaves it, with its logs, at the end.
    pub async fn create(keep: bool) -> Result<Self> {
        sweep().await;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut place = Self { path, keep: false };
        if keep {
            place.keep();
        }
        Ok(place)
    }

    /// Leaves the folder at the end, and in later runs.
    pub fn keep(&mut self) {
        self.keep = true;
        let _ = fs::write(self.path.join(KEPT), "");
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("bench: logs and data are kept in {}", self.path.display());
        } else {
            remove(&self.path);
        }
    }
}

fn remove(folder: &Path) {
    // PostgreSQL's data may lie elsewhere.
    let _ = Postgres::remove_data(&folder.join("postgres"));
    let _ = fs::remove_dir_all(folder);
}

/// Ends and removes what runs that were killed by SIGKILL left behind. Best effort.
async fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    let own = fs::metadata("/proc/self").map(|found| found.uid()).ok();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
        let is_own = entry
            .metadata()
            .is_ok_and(|found| found.is_dir() && Some(found.uid()) == own);
        if let Some(owner) = owner
            && is_own
            && !procfs::is_alive(owner)
            && end_all(&entry.path()).await
            && !entry.path().join(KEPT).exists()
        {
            remove(&entry.path());
        }
    }
}

async fn end_all(folder: &Path) -> bool {
    let services = (1..=16).map(|number| format!("mailer-{number}"));
    let services = services.chain(["api", "api-2", "inbox"].map(str::to_owned));
    let launches = services
        .map(|name| Launch::new(&name, "", folder))
        .chain(["rabbitmq", "epmd"].map(|name| Launch::new(name, "", &folder.join("rabbitmq"))))
        .chain([Launch::new("postgres", "", &folder.join("postgres"))]);
    for launch in launches {
        if let Err(error) = end_stale(&launch).await {
            eprintln!("bench: {error:#}");
            return false;
        }
    }
    true
}
