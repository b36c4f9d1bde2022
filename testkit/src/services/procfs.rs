//! What Linux tells about other processes in `/proc`. On a system without it every answer is "unknown".

use std::fs;
use std::path::Path;

/// Parent, state letter and start time (clock ticks since boot) out of `/proc/<pid>/stat`.
struct Stat {
    parent: u32,
    state: char,
    started: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name stands in parentheses and may hold anything, so count from the last one.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// When the process began, in ticks since boot: with the pid it names one process for ever.
pub fn started(pid: u32) -> Option<u64> {
    stat(pid).map(|stat| stat.started)
}

/// Whether the process exists and is more than a zombie that nobody has reaped.
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != 'Z' && stat.state != 'X')
}

/// Whether the process was started for `folder`: its command line or its environment names it.
pub fn belongs_to(pid: u32, folder: &Path) -> bool {
    let folder = folder.as_os_str().as_encoded_bytes();
    ["cmdline", "environ"].iter().any(|file| {
        fs::read(format!("/proc/{pid}/{file}"))
            .is_ok_and(|bytes| bytes.windows(folder.len()).any(|part| part == folder))
    })
}

/// Children of the process, their children, and so on; PostgreSQL's are sessions of their own, so no process group
/// would find them.
pub fn descendants(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let parents: Vec<(u32, u32)> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|other: u32| Some((other, stat(other)?.parent)))
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(child, _)| *child),
        );
        next += 1;
    }
    found.split_off(1)
}

/// Resident memory of the process in bytes.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    status_kilobytes(pid, "VmRSS:")
}

/// The most resident memory the process ever had, in bytes.
pub fn peak_resident_bytes(pid: u32) -> Option<u64> {
    status_kilobytes(pid, "VmHWM:")
}

fn status_kilobytes(pid: u32, key: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kilobytes| kilobytes * 1024)
}

/// User and system time the process has used, in clock ticks (100 a second on Linux).
pub fn cpu_ticks(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// Lets this process open as many files as it may at all; many systems begin with 1024.
pub fn raise_open_files() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_this_process() {
        let own = std::process::id();
        assert!(is_alive(own));
        assert!(started(own).is_some());
        assert!(resident_bytes(own).is_some_and(|bytes| bytes > 100_000));
        assert!(!belongs_to(own, Path::new("/no/such/folder/of/ours")));
    }
}
