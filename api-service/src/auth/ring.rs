//! The valid keys, in memory, so that no request waits for the database to be let in.
//!
//! They are read again every second, which is how fast a revoked key dies, and once more when somebody
//! comes with a key that is not known, so that a new key works at once on every replica. While the database
//! is away the keys last read stay valid; what is not known is refused.

use super::{Caller, KeyHash};
use crate::queries::api_keys;
use chrono::{DateTime, Utc};
use shared::db::Pool;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// How old the keys may become.
const REFRESH: Duration = Duration::from_secs(1);
/// The least time between two readings: unknown keys can't make more than four a second.
const BETWEEN: Duration = Duration::from_millis(250);

/// Why a key was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// It is unknown, revoked or expired.
    Invalid,
    /// It is not known, and the database can't be asked.
    Unreadable,
}

/// A key that was valid when it was read.
#[derive(Debug)]
pub struct KnownKey {
    pub caller: Caller,
    pub expires_at: Option<DateTime<Utc>>,
}

/// A handle to the keys; clones share them.
#[derive(Clone)]
pub struct KeyRing(Arc<Ring>);

struct Ring {
    pool: Pool,
    known: RwLock<Known>,
    /// When the latest reading began; held while one is going on.
    latest: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Known {
    keys: HashMap<KeyHash, KnownKey>,
    /// When the reading began that these keys are from.
    as_of: Option<Instant>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").finish_non_exhaustive()
    }
}

impl KeyRing {
    /// Starts reading; must be called in a tokio runtime. Requests may come before the first reading: they
    /// make one.
    pub fn spawn(pool: Pool, stop: CancellationToken) -> Self {
        let ring = Self(Arc::new(Ring {
            pool,
            known: RwLock::default(),
            latest: Mutex::default(),
        }));
        let background = ring.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            loop {
                background.read_after(Instant::now()).await;
                tokio::time::sleep(REFRESH).await;
            }
        }));
        ring
    }

    /// Whose key that is, as far as is known now.
    pub fn known(&self, hash: &KeyHash) -> Option<Caller> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let key = known.keys.get(hash)?;
        let is_valid = key
            .expires_at
            .is_none_or(|expires_at| expires_at > Utc::now());
        is_valid.then(|| key.caller.clone())
    }

    /// Whose key that is, after reading the keys once more.
    pub async fn find(&self, hash: &KeyHash) -> Result<Caller, Unknown> {
        let asked = Instant::now();
        self.read_after(asked).await;
        self.known(hash).ok_or_else(|| {
            let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
            if known.as_of.is_some_and(|as_of| as_of >= asked) {
                Unknown::Invalid
            } else {
                Unknown::Unreadable
            }
        })
    }

    /// Returns when a reading that began after `asked` has ended; all who wait share one.
    async fn read_after(&self, asked: Instant) {
        let mut latest = self.0.latest.lock().await;
        if latest.is_some_and(|began| began >= asked) {
            return;
        }
        if let Some(began) = *latest {
            tokio::time::sleep(BETWEEN.saturating_sub(began.elapsed())).await;
        }
        let began = Instant::now();
        *latest = Some(began);
        match self.0.pool.run(api_keys::valid).await {
            Ok(rows) => {
                let keys = rows
                    .into_iter()
                    .filter_map(api_keys::ValidKey::into_entry)
                    .collect();
                *self.0.known.write().unwrap_or_else(PoisonError::into_inner) = Known {
                    keys,
                    as_of: Some(began),
                };
            }
            // The outage itself is reported by the loops that live on the database.
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the API keys could not be read; the last known ones stay valid"
            ),
        }
    }
}
