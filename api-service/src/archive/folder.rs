//! The archive in a folder. A file is `tasks-<day>-<id>.jsonl.gz.part` while it is written, under a lock, one gzip
//! member for each batch, and loses the `.part` when it is complete: whoever carries files away sees whole ones only.

use super::{Archive, ArchiveError, recover};
use chrono::NaiveDate;
use flate2::{Compression, write::GzEncoder};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use uuid::Uuid;

pub(super) const PREFIX: &str = "tasks-";
/// Of a file that is being written.
pub(super) const PART: &str = ".part";

/// Tasks hold what callers wrote: for the service alone.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    /// A file that has so many bytes is complete.
    largest: u64,
    today: NaiveDate,
    current: Option<Current>,
}

/// The file that is being written.
#[derive(Debug)]
struct Current {
    file: File,
    path: PathBuf,
    day: NaiveDate,
    /// Bytes of committed batches.
    whole: u64,
    /// The batch under way.
    member: Option<GzEncoder<File>>,
}

impl Folder {
    /// The folder is made when it is needed.
    pub fn new(dir: PathBuf, largest: u64) -> Self {
        Self {
            dir,
            largest,
            today: NaiveDate::default(),
            current: None,
        }
    }

    fn close_if_due(&mut self) -> Result<(), ArchiveError> {
        let is_due = |current: &Current| {
            current.member.is_none() && (current.day != self.today || current.whole >= self.largest)
        };
        match &self.current {
            Some(current) if is_due(current) => self.close(),
            _ => Ok(()),
        }
    }

    fn close(&mut self) -> Result<(), ArchiveError> {
        match self.current.take() {
            Some(current) => complete(&current.path, current.whole),
            None => Ok(()),
        }
    }

    fn current(&mut self) -> Result<&mut Current, ArchiveError> {
        let current = match self.current.take() {
            Some(current) => current,
            None => create(&self.dir, self.today)?,
        };
        Ok(self.current.insert(current))
    }
}

impl Archive for Folder {
    fn begin(&mut self, today: NaiveDate) -> Result<(), ArchiveError> {
        self.today = today;
        self.abandon();
        self.close_if_due()
    }

    fn write(&mut self, line: &[u8]) -> Result<(), ArchiveError> {
        let current = self.current()?;
        let written = current.write(line);
        written.map_err(ArchiveError::of("write", &current.path))
    }

    fn commit(&mut self) -> Result<(), ArchiveError> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let written = current.commit();
        written.map_err(ArchiveError::of("write", &current.path))
    }

    fn abandon(&mut self) {
        if let Some(mut current) = self.current.take() {
            match current.abandon() {
                Ok(()) => self.current = Some(current),
                // Whoever recovers the file cuts off what is too much.
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a file of the archive could not be cut: {}",
                    current.path.display()
                ),
            }
        }
    }

    fn tend(&mut self, today: NaiveDate) -> Result<(), ArchiveError> {
        self.today = today;
        self.close_if_due()?;
        recover::recover(&self.dir)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.abandon();
        if let Err(error) = self.close() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the last file of the archive keeps its {PART} until a service recovers it"
            );
        }
    }
}

impl Current {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let member = match self.member.take() {
            Some(member) => member,
            None => GzEncoder::new(self.file.try_clone()?, Compression::default()),
        };
        let member = self.member.insert(member);
        member.write_all(line)?;
        member.write_all(b"\n")
    }

    fn commit(&mut self) -> io::Result<()> {
        let Some(member) = self.member.take() else {
            return Ok(());
        };
        member.finish()?;
        self.file.sync_data()?;
        self.whole = self.file.stream_position()?;
        Ok(())
    }

    /// Back to the last committed batch.
    fn abandon(&mut self) -> io::Result<()> {
        // Its drop writes the end of the member, as far as it can.
        drop(self.member.take());
        if self.file.stream_position()? != self.whole {
            self.file.set_len(self.whole)?;
            self.file.seek(SeekFrom::Start(self.whole))?;
        }
        Ok(())
    }
}

fn create(dir: &Path, day: NaiveDate) -> Result<Current, ArchiveError> {
    let folder = DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(dir);
    folder.map_err(ArchiveError::of("make the folder", dir))?;
    let name = format!("{PREFIX}{day}-{}.jsonl.gz{PART}", Uuid::now_v7().simple());
    let path = dir.join(name);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(&path)
        .map_err(ArchiveError::of("make", &path))?;
    let locked = file.try_lock().map_err(io::Error::from);
    locked.map_err(ArchiveError::of("lock", &path))?;
    // Somebody who recovers files may have been quicker.
    let is_there = is_at(&file, &path).map_err(ArchiveError::of("look at", &path))?;
    if !is_there {
        let gone = io::Error::from(io::ErrorKind::NotFound);
        return Err(ArchiveError::of("keep", &path)(gone));
    }
    sync_folder(dir)?;
    Ok(Current {
        file,
        path,
        day,
        whole: 0,
        member: None,
    })
}

/// Whether the path still names this file.
pub(super) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(theirs) => Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes the `.part` off a file whose batches are on disk; the caller holds its lock. An empty one is removed.
pub(super) fn complete(part: &Path, bytes: u64) -> Result<(), ArchiveError> {
    if bytes == 0 {
        return fs::remove_file(part).map_err(ArchiveError::of("remove", part));
    }
    let whole = part.with_extension("");
    fs::rename(part, &whole).map_err(ArchiveError::of("rename", part))?;
    sync_folder(whole.parent().unwrap_or(Path::new(".")))
}

fn sync_folder(dir: &Path) -> Result<(), ArchiveError> {
    let synced = File::open(dir).and_then(|folder| folder.sync_all());
    synced.map_err(ArchiveError::of("sync", dir))
}

#[cfg(test)]
mod tests;
