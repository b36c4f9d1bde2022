//! Where finished tasks go before they are deleted: as JSON Lines, compressed, payloads and results included.
//!
//! A batch is on disk before the transaction that deletes its rows commits. So a crash in between leaves a task in the
//! archive twice, and never loses one; and while the archive can't be written to, nothing is deleted.

mod folder;
mod recover;

pub use folder::Folder;

use chrono::NaiveDate;
use shared::config::Retention;
use std::{
    io,
    path::{Path, PathBuf},
};

/// A place that keeps batches of lines. Batches follow one another: `begin`, `write` …, then `commit` or `abandon`.
pub trait Archive: Send {
    /// Begins a batch.
    fn begin(&mut self, today: NaiveDate) -> Result<(), ArchiveError>;
    /// Adds a line, given without its end.
    fn write(&mut self, line: &[u8]) -> Result<(), ArchiveError>;
    /// Returns when the batch will outlive a crash.
    fn commit(&mut self) -> Result<(), ArchiveError>;
    /// Forgets what was written since the last commit.
    fn abandon(&mut self);
    /// Closes what is due, and what processes that died have left. For every now and then.
    fn tend(&mut self, today: NaiveDate) -> Result<(), ArchiveError>;
}

/// The archive can't be used; says what with, and keeps the operating system's word.
#[derive(Debug, thiserror::Error)]
#[error("the archive could not {what} {path:?} (retention.archive_dir)")]
pub struct ArchiveError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl ArchiveError {
    fn of(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

/// The archive of the configuration; none: finished tasks are just deleted.
pub fn open(config: &Retention) -> Option<Box<dyn Archive>> {
    if config.archive_dir.is_empty() {
        return None;
    }
    let dir = PathBuf::from(&config.archive_dir);
    Some(Box::new(Folder::new(dir, config.archive_file_bytes)))
}
