//! The file store as the API uses it: a content is noted in the database before it is put there, so that the janitor
//! leaves it alone.

use crate::{
    problem::{Problem, ProblemType},
    queries::files,
};
use shared::{
    config::{self, ConfigError},
    db::Pool,
    files::{FileError, FileId, Files},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

type Bytes = actix_web::web::Bytes;

const KIBIBYTE: usize = 1024;
/// How long an upload waits for others.
const PATIENCE: Duration = Duration::from_secs(10);

/// Clones share the room.
#[derive(Debug, Clone)]
pub struct Store {
    files: Files,
    /// Kibibytes of uploads that may be in memory.
    room: Arc<Semaphore>,
    kibibytes: usize,
}

impl Store {
    /// None: `files.url` is empty.
    pub fn open(config: &config::Files) -> Result<Option<Self>, ConfigError> {
        let kibibytes = (config.max_buffered_bytes / KIBIBYTE)
            .clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let files = Files::open(config)?;
        Ok(files.map(|files| Self {
            files,
            room: Arc::new(Semaphore::new(kibibytes)),
            kibibytes,
        }))
    }

    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Waits until there is room for so many bytes; while it is held, they may be in memory.
    pub async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let kibibytes = bytes.div_ceil(KIBIBYTE).min(self.kibibytes);
        let kibibytes = u32::try_from(kibibytes).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(kibibytes);
        let room = tokio::time::timeout(PATIENCE, room).await;
        room.map_err(|_| Problem::new(ProblemType::Overloaded))?
            .map_err(Problem::internal)
    }

    /// Keeps these contents for `files.keep_hours` from now, and as long as a task needs them.
    pub async fn keep(&self, pool: &Pool, contents: Vec<(FileId, Bytes)>) -> Result<(), Problem> {
        if contents.is_empty() {
            return Ok(());
        }
        let sizes: BTreeMap<FileId, u64> = contents
            .iter()
            .map(|(id, content)| (id.clone(), content.len() as u64))
            .collect();
        pool.run(move |connection| files::note(connection, &sizes))
            .await?;
        let mut ids = Vec::with_capacity(contents.len());
        for (id, content) in contents {
            self.files.put(&id, content).await?;
            ids.push(id);
        }
        pool.run(move |connection| files::stored(connection, &ids))
            .await?;
        Ok(())
    }
}

impl From<FileError> for Problem {
    fn from(error: FileError) -> Self {
        Self::new(ProblemType::FilesUnavailable).caused_by(error)
    }
}
