//! The valid keys, in memory, so that no request waits for the database to be let in.
//!
//! They are read again every second, which is how fast a revoked key dies, and once more when somebody
//! comes with a key that is not known, so that a new key works at once on every replica. While the database
//! is away the keys last read stay valid; what is not known is refused.

use super::{Caller, KeyHash};
use crate::{budget::Budgets, queries::api_keys};
use chrono::{DateTime, Utc};
use shared::db::Pool;
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex as StdMutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How old the keys may become.
const REFRESH: Duration = Duration::from_secs(1);
/// How often it is noted which keys were used.
const NOTED_EVERY: Duration = Duration::from_secs(5);
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
    /// Since it was read.
    pub used: AtomicBool,
}

/// A handle to the keys; clones share them.
#[derive(Clone)]
pub struct KeyRing(Arc<Ring>);

struct Ring {
    pool: Pool,
    budgets: Budgets,
    /// Keys used since that was last written.
    used: StdMutex<HashSet<Uuid>>,
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
    pub fn spawn(pool: Pool, budgets: Budgets, stop: CancellationToken) -> Self {
        let ring = Self(Arc::new(Ring {
            pool,
            budgets,
            used: StdMutex::default(),
            known: RwLock::default(),
            latest: Mutex::default(),
        }));
        let background = ring.clone();
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            loop {
                background.read_after(Instant::now()).await;
                tokio::time::sleep(REFRESH).await;
            }
        }));
        // Apart, so that it can't hold up the end of a revoked key.
        let noting = ring.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            loop {
                tokio::time::sleep(NOTED_EVERY).await;
                noting.note_use().await;
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
        if !is_valid {
            return None;
        }
        if !key.used.swap(true, Ordering::Relaxed) {
            self.used().insert(key.caller.key_id);
        }
        Some(key.caller.clone())
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

    fn used(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes which keys have been used since the last time.
    async fn note_use(&self) {
        let ids: Vec<Uuid> = std::mem::take(&mut *self.used()).into_iter().collect();
        if ids.is_empty() {
            return;
        }
        // Lost with the database: the next use is noted again.
        if let Err(error) = self
            .0
            .pool
            .run(move |connection| api_keys::used(connection, &ids))
            .await
        {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the use of API keys could not be noted"
            );
        }
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
                let budgets = &self.0.budgets;
                let keys: HashMap<_, _> = rows
                    .into_iter()
                    .filter_map(|row| row.into_entry(budgets))
                    .collect();
                budgets.keep(&keys.values().map(|key| key.caller.key_id).collect());
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
