//! Files by what they hold: the name of each is the SHA-256 of its content, so that what is sent a thousand times is kept
//! once, and what comes back is what was put. In a folder, or in what speaks the language of S3.

use crate::config::{self, ConfigError};
use bytes::Bytes;
use object_store::{
    ObjectStore, ObjectStoreExt as _, RetryConfig, aws::AmazonS3Builder, local::LocalFileSystem,
    path::Path, prefix::PrefixStore,
};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Deserializer, Serialize, de};
use sha2::{Digest as _, Sha256};
use std::{fmt, sync::Arc, time::Duration};
use url::Url;

const KEY: &str = "files.url";
/// How long one request to S3 is tried; callers try again themselves.
const RETRY_LIMIT: Duration = Duration::from_secs(10);

/// The SHA-256 of a content, in 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct FileId(String);

impl FileId {
    pub fn of(content: &[u8]) -> Self {
        let digest = Sha256::digest(content);
        let number = |half: &[u8]| {
            half.iter()
                .fold(0, |number: u128, byte| number << 8 | u128::from(*byte))
        };
        let (high, low) = digest.split_at(16);
        Self(format!("{:032x}{:032x}", number(high), number(low)))
    }

    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (text.len() == 64 && text.bytes().all(is_digit)).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn path(&self) -> Path {
        Path::from(format!("{}/{}", &self.0[..2], &self.0[2..]))
    }
}

impl<'de> Deserialize<'de> for FileId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("must be the id of an upload"))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("the file is gone")]
    NotFound,
    #[error("the file is not what it was")]
    Damaged,
    #[error("the files can't be reached")]
    Unavailable(#[source] object_store::Error),
}

impl From<object_store::Error> for FileError {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::NotFound,
            other => Self::Unavailable(other),
        }
    }
}

/// All files. Clones are handles to the same.
#[derive(Clone)]
pub struct Files(Arc<dyn ObjectStore>);

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}

impl Files {
    /// None: `files.url` is empty. A folder that is not there is made; S3 is not connected to.
    pub fn open(config: &config::Files) -> Result<Option<Self>, ConfigError> {
        if config.url.is_empty() {
            return Ok(None);
        }
        let form = || ConfigError::value(KEY, "must be file:///folder or s3://bucket/folder");
        let url = Url::parse(&config.url).map_err(|_| form())?;
        let store = match url.scheme() {
            "file" => folder(&url)?,
            "s3" => s3(&url, config)?,
            _ => return Err(form()),
        };
        Ok(Some(Self(store)))
    }

    /// Puts a content there, if it is not there already; returns when it will survive a crash.
    pub async fn put(&self, id: &FileId, content: Bytes) -> Result<(), FileError> {
        let path = id.path();
        match self.0.head(&path).await {
            Ok(found) if found.size == content.len() as u64 => return Ok(()),
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.0.put(&path, content.into()).await?;
        Ok(())
    }

    pub async fn get(&self, id: &FileId) -> Result<Bytes, FileError> {
        let content = self.0.get(&id.path()).await?.bytes().await?;
        if FileId::of(&content) == *id {
            Ok(content)
        } else {
            Err(FileError::Damaged)
        }
    }

    /// One that is not there is as good as deleted.
    pub async fn delete(&self, id: &FileId) -> Result<(), FileError> {
        match self.0.delete(&id.path()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn folder(url: &Url) -> Result<Arc<dyn ObjectStore>, ConfigError> {
    let refused = |what: &str| ConfigError::value(KEY, what);
    let path = url
        .to_file_path()
        .map_err(|()| refused("must name a folder of this machine: file:///folder"))?;
    std::fs::create_dir_all(&path)
        .map_err(|error| refused(&format!("names a folder that can't be made: {error}")))?;
    let store = LocalFileSystem::new_with_prefix(&path)
        .map_err(|error| refused(&format!("names a folder that can't be used: {error}")))?;
    Ok(Arc::new(store.with_fsync(true)))
}

fn s3(url: &Url, config: &config::Files) -> Result<Arc<dyn ObjectStore>, ConfigError> {
    // The first that is chosen in the process stays; all of ours are ring.
    let _chosen = rustls::crypto::ring::default_provider().install_default();
    let bucket = url.host_str().unwrap_or_default();
    let mut builder = if config.s3_access_key_id.is_empty() {
        AmazonS3Builder::from_env()
    } else {
        AmazonS3Builder::new()
            .with_access_key_id(&config.s3_access_key_id)
            .with_secret_access_key(config.s3_secret_access_key.expose_secret())
    };
    builder = builder
        .with_retry(RetryConfig {
            max_retries: 2,
            retry_timeout: RETRY_LIMIT,
            ..RetryConfig::default()
        })
        .with_bucket_name(bucket)
        .with_region(&config.s3_region);
    if !config.s3_endpoint.is_empty() {
        builder = builder
            .with_endpoint(&config.s3_endpoint)
            .with_allow_http(config.s3_endpoint.starts_with("http://"));
    }
    let store = builder
        .build()
        .map_err(|error| ConfigError::value(KEY, format!("can't be used: {error}")))?;
    let folder = url.path().trim_matches('/');
    Ok(if folder.is_empty() {
        Arc::new(store)
    } else {
        Arc::new(PrefixStore::new(store, folder))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hashes() {
        let id = FileId::of(b"hello");
        assert_eq!(
            id.as_str(),
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        assert_eq!(FileId::parse(id.as_str()), Some(id));
        for wrong in ["", "../x", &"A".repeat(64), &"a".repeat(63)] {
            assert_eq!(FileId::parse(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn what_is_put_comes_back_or_is_known_to_be_gone() {
        let folder = std::env::temp_dir().join(format!("warren-files-{}", uuid::Uuid::now_v7()));
        let mut config = crate::config::Config::with(&[]).unwrap().files;
        config.url = Url::from_file_path(&folder).unwrap().into();
        let files = Files::open(&config).unwrap().unwrap();
        let (id, content) = (FileId::of(b"hello"), Bytes::from_static(b"hello"));
        files.put(&id, content.clone()).await.unwrap();
        files.put(&id, content.clone()).await.unwrap();
        assert_eq!(files.get(&id).await.unwrap(), content);
        std::fs::write(folder.join(id.path().to_string()), "hellO").unwrap();
        assert!(matches!(files.get(&id).await, Err(FileError::Damaged)));
        files.delete(&id).await.unwrap();
        files.delete(&id).await.unwrap();
        assert!(matches!(files.get(&id).await, Err(FileError::NotFound)));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn other_places_are_refused() {
        for url in ["files", "http://example.com/", "file://host/x"] {
            let mut config = crate::config::Config::with(&[]).unwrap().files;
            config.url = url.into();
            assert!(Files::open(&config).is_err(), "{url}");
        }
        let none = crate::config::Config::with(&[]).unwrap().files;
        assert!(Files::open(&none).unwrap().is_none());
    }
}
