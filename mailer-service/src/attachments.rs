//! What mails carry beside their texts, from the file store. Mails wait for room before they load theirs, so that memory
//! is bounded; a file that many mails carry is loaded once and kept for a while.

use crate::setup::{SetupError, unusable};
use bytes::Bytes;
use quick_cache::{Weighter, sync::Cache};
use rand::RngExt as _;
use shared::{
    attachment::{Attachment, encoded_size},
    config::Config,
    files::{FileError, FileId, Files},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit in which bytes are counted.
const KIBIBYTE: usize = 1024;
const FEW: usize = 64;
/// How long a mail waits for room in its slot, and then for how many seconds without one.
const PATIENCE: Duration = Duration::from_secs(1);
const LATER: std::ops::Range<u64> = 3..15;

/// Why a mail can't be sent now, or at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoFile {
    #[error("an attachment could not be read")]
    Unavailable,
    #[error("other mails with attachments come first (files.max_buffered_bytes)")]
    Crowded(Duration),
    #[error("the worker that got it has no files.url")]
    NotConfigured,
    #[error("an attachment is gone from the file store, or is not what it was")]
    Gone,
}

#[derive(Clone)]
struct Bytewise;

impl Weighter<FileId, Bytes> for Bytewise {
    fn weight(&self, _id: &FileId, content: &Bytes) -> u64 {
        content.len() as u64 + 1
    }
}

/// One for the whole process.
pub struct Attachments {
    files: Option<Files>,
    cache: Cache<FileId, Bytes, Bytewise>,
    room: Arc<Semaphore>,
    kibibytes: usize,
}

/// The files of one mail, and their place in memory.
#[derive(Default)]
pub struct Loaded {
    pub contents: Vec<Bytes>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Attachments {
    pub fn new(config: &Config) -> Result<Self, SetupError> {
        let config = &config.files;
        let kibibytes = (config.max_buffered_bytes / KIBIBYTE)
            .clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Ok(Self {
            files: Files::open(config).map_err(unusable)?,
            cache: Cache::with_weighter(FEW, config.cache_bytes, Bytewise),
            room: Arc::new(Semaphore::new(kibibytes)),
            kibibytes,
        })
    }

    /// What they hold, in their order.
    pub async fn load(&self, attachments: &[Attachment]) -> Result<Loaded, NoFile> {
        if attachments.is_empty() {
            return Ok(Loaded::default());
        }
        let Some(files) = &self.files else {
            return Err(NoFile::NotConfigured);
        };
        // The content, and the mail that is made of it.
        let bytes: u64 = attachments
            .iter()
            .map(|one| one.size + encoded_size(one.size))
            .sum();
        let kibibytes = usize::try_from(bytes.div_ceil(KIBIBYTE as u64)).unwrap_or(usize::MAX);
        let kibibytes = u32::try_from(kibibytes.min(self.kibibytes)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(kibibytes);
        // Others have a use for the slot meanwhile.
        let Ok(room) = tokio::time::timeout(PATIENCE, room).await else {
            let wait = rand::rng().random_range(LATER);
            return Err(NoFile::Crowded(Duration::from_secs(wait)));
        };
        let mut contents = Vec::with_capacity(attachments.len());
        for attachment in attachments {
            let id = &attachment.file;
            let content = self.cache.get_or_insert_async(id, files.get(id)).await;
            contents.push(content.map_err(|error| match error {
                FileError::NotFound | FileError::Damaged => NoFile::Gone,
                FileError::Unavailable(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "an attachment could not be read"
                    );
                    NoFile::Unavailable
                }
            })?);
        }
        Ok(Loaded {
            contents,
            _room: room.ok(),
        })
    }
}
