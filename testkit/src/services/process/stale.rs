//! Ends what an owner that was killed left running.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::process::Signal;

use super::{Launch, POLL, signal_all};
use crate::services::procfs;

const GRACE: Duration = Duration::from_secs(10);

/// The pid file's line: the program and its owner, each as pid and start time, which no later process can share.
pub(super) fn record(pid: u32) -> String {
    let owner = std::process::id();
    let started = |pid| procfs::started(pid).unwrap_or(0);
    format!("{pid} {} {owner} {}\n", started(pid), started(owner))
}

/// Ends the program that the folder's pid file names, if it still is that program and its owner is gone. A living
/// owner is an error: two instances on one data folder would damage it.
pub async fn end_stale(launch: &Launch) -> Result<()> {
    let path = launch.pid_path();
    let Ok(text) = fs::read_to_string(&path) else {
        return Ok(());
    };
    let numbers: Vec<u64> = text
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    if let [pid, started, owner, owner_started] = numbers[..] {
        let (pid, owner) = (
            u32::try_from(pid).unwrap_or(0),
            u32::try_from(owner).unwrap_or(0),
        );
        let is_ours = procfs::is_alive(pid)
            && procfs::started(pid) == Some(started)
            && procfs::belongs_to(pid, &launch.folder);
        if is_ours && procfs::is_alive(owner) && procfs::started(owner) == Some(owner_started) {
            bail!(
                "{} runs on {} already (pid {pid}, started by pid {owner}): stop that one first",
                launch.name,
                launch.folder.display()
            );
        }
        if is_ours {
            end(pid, launch).await?;
        }
    }
    let _ = fs::remove_file(path);
    Ok(())
}

async fn end(pid: u32, launch: &Launch) -> Result<()> {
    let mut tree = vec![pid];
    tree.extend(procfs::descendants(pid));
    signal_all(&tree, Signal::CONT);
    signal_all(&[pid], launch.stop_signal);
    if !gone(&tree).await {
        signal_all(&tree, Signal::KILL);
        if !gone(&tree).await {
            bail!(
                "{} of an earlier run (pid {pid}) does not end even by SIGKILL",
                launch.name
            );
        }
    }
    Ok(())
}

async fn gone(pids: &[u32]) -> bool {
    let start = Instant::now();
    while pids.iter().any(|pid| procfs::is_alive(*pid)) {
        if start.elapsed() > GRACE {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
    true
}
