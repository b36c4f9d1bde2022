//! Files that a process left behind when it died: cut after the last whole batch and completed. The rows of a batch that
//! is not whole were not deleted, so they are exported again. The lock tells the dead from the living.

use super::{
    ArchiveError,
    folder::{PART, PREFIX, complete, is_at},
};
use flate2::bufread::GzDecoder;
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

/// Completes what nobody writes any more.
pub(super) fn recover(dir: &Path) -> Result<(), ArchiveError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        // Nothing was archived yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ArchiveError::of("read the folder", dir)(error)),
    };
    for entry in entries {
        let path = entry
            .map_err(ArchiveError::of("read the folder", dir))?
            .path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(PART) {
            recover_file(&path)?;
        }
    }
    Ok(())
}

fn recover_file(path: &Path) -> Result<(), ArchiveError> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ArchiveError::of("open", path)(error)),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(ArchiveError::of("lock", path)(error)),
    }
    if !is_at(&file, path).map_err(ArchiveError::of("look at", path))? {
        return Ok(());
    }
    let bytes = cut(&file).map_err(ArchiveError::of("recover", path))?;
    complete(path, bytes)?;
    tracing::warn!(
        "a file of the archive that a process had left behind is complete now: {}",
        path.display()
    );
    Ok(())
}

/// Cuts off what follows the last whole member; returns how many bytes are left.
fn cut(file: &File) -> io::Result<u64> {
    let whole = whole_members(file)?;
    file.set_len(whole)?;
    file.sync_all()?;
    Ok(whole)
}

fn whole_members(file: &File) -> io::Result<u64> {
    let mut whole = 0;
    let mut rest = Counted {
        inner: BufReader::new(file),
        taken: 0,
    };
    while !rest.fill_buf()?.is_empty() {
        let mut member = GzDecoder::new(rest);
        match io::copy(&mut member, &mut io::sink()) {
            Ok(_) => {
                rest = member.into_inner();
                whole = rest.taken;
            }
            Err(error) if is_broken(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(whole)
}

fn is_broken(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

/// Knows how far it was read.
struct Counted<R> {
    inner: R,
    taken: u64,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.taken += count as u64;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.taken += count as u64;
        self.inner.consume(count);
    }
}
