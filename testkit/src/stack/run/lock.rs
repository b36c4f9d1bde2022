//! One run a folder: a file lock, which the kernel takes back from whoever dies, however it dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// Holds the folder until it is dropped.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

pub(super) enum Held {
    ByUs(Lock),
    ByPid(u32),
}

impl Lock {
    pub(super) fn take(folder: &Path) -> Result<Held> {
        let mut file = open(folder)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                writeln!(file, "{}", std::process::id())?;
                Ok(Held::ByUs(Lock(file)))
            }
            Err(TryLockError::WouldBlock) => Ok(Held::ByPid(pid(&mut file)?)),
            Err(TryLockError::Error(error)) => Err(error).context("cannot lock the run's folder"),
        }
    }
}

/// Who holds the folder now.
pub(super) fn holder(folder: &Path) -> Result<Option<u32>> {
    if !folder.join("lock").exists() {
        return Ok(None);
    }
    let mut file = open(folder)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => pid(&mut file).map(Some),
        Ok(()) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).context("cannot look at the lock of the run's folder")
        }
    }
}

fn open(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))
}

fn pid(file: &mut File) -> Result<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    text.trim()
        .parse()
        .context("the lock of the run's folder names no pid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::files;

    #[test]
    fn one_at_a_time() {
        let folder = std::env::temp_dir().join(format!("warren-test-lock-{}", std::process::id()));
        files::create_folder(&folder).unwrap();
        assert_eq!(holder(&folder).unwrap(), None);
        let Held::ByUs(lock) = Lock::take(&folder).unwrap() else {
            panic!("nobody holds it")
        };
        assert_eq!(holder(&folder).unwrap(), Some(std::process::id()));
        assert!(
            matches!(Lock::take(&folder).unwrap(), Held::ByPid(pid) if pid == std::process::id())
        );
        drop(lock);
        assert!(matches!(Lock::take(&folder).unwrap(), Held::ByUs(_)));
        files::remove_folder(&folder).unwrap();
    }
}
