//! What running attempts have to say: how far they have come, and their output. Of the progress only the latest word is
//! kept, and output is gathered, so a handler may say as much as it likes as often as it likes. The control thread
//! writes what is due of all attempts at once, and of each four times a second at most.

mod output;
#[cfg(test)]
mod tests;

pub use output::{Chunk, Limits};

use crate::registry::Key;
use output::Output;
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::futures::OwnedNotified;

/// Between two writes of one attempt.
const BETWEEN: Duration = Duration::from_millis(250);
/// Characters of a note that are kept.
const LONGEST_NOTE: usize = 500;
/// Output that is written at once; what is more waits for the next round.
const LARGEST_ROUND: usize = 4 << 20;

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Progress {
    /// 0 to 100.
    pub percent: Option<f64>,
    pub note: Option<String>,
}

/// What one attempt has to say in a round.
#[derive(Debug, Clone)]
pub struct Word {
    pub key: Key,
    pub progress: Option<Progress>,
    pub chunk: Option<Chunk>,
}

/// What was said and is not on disk; clones share it. An attempt that says nothing has no entry.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    limits: Limits,
    said: Mutex<HashMap<Key, Said>>,
    /// Of `said`, to be read without its lock.
    entries: AtomicUsize,
}

#[derive(Debug, Default)]
struct Said {
    progress: Option<Progress>,
    output: Output,
    /// When it was last taken to be written.
    taken: Option<Instant>,
}

impl Said {
    fn is_due(&self, now: Instant) -> bool {
        let is_early = self
            .taken
            .is_some_and(|taken| now.saturating_duration_since(taken) < BETWEEN);
        !is_early && (self.progress.is_some() || self.output.is_waiting())
    }
}

impl Board {
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared {
            limits,
            ..Shared::default()
        }))
    }

    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Said>> {
        self.0.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, work: impl FnOnce(&mut HashMap<Key, Said>) -> T) -> T {
        let mut said = self.lock();
        let value = work(&mut said);
        self.0.entries.store(said.len(), Ordering::Release);
        value
    }

    /// Notes how far an attempt is. The percentage is brought into 0 to 100, a long note is cut.
    pub fn report(&self, key: Key, percent: Option<f64>, note: Option<&str>) {
        let progress = Progress {
            percent: percent
                .filter(|percent| percent.is_finite())
                .map(|percent| percent.clamp(0.0, 100.0)),
            // PostgreSQL's JSON can't hold NUL for every use.
            note: note.map(|note| note.replace('\0', "").chars().take(LONGEST_NOTE).collect()),
        };
        self.change(|said| said.entry(key).or_default().progress = Some(progress));
    }

    /// Takes a piece of an attempt's output, as soon as there is room for it.
    pub async fn emit(&self, key: Key, text: &str) {
        // PostgreSQL's texts have no NUL.
        let clean;
        let mut rest = text;
        if text.contains('\0') {
            clean = text.replace('\0', "");
            rest = &clean;
        }
        while let Some((left, room)) = self.push(key, rest) {
            rest = left;
            room.await;
        }
    }

    /// What found no room, and the moment when there may be some.
    fn push<'a>(&self, key: Key, text: &'a str) -> Option<(&'a str, OwnedNotified)> {
        if text.is_empty() {
            return None;
        }
        let limits = self.0.limits;
        self.change(|said| said.entry(key).or_default().output.push(text, limits))
    }

    /// Takes what is to be written now. Each word must come back by one of the four methods below.
    pub fn due(&self, now: Instant) -> Vec<Word> {
        if self.0.entries.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let mut bytes = 0;
        self.lock()
            .iter_mut()
            .filter(|(_, said)| said.is_due(now))
            .map_while(|(key, said)| {
                if bytes >= LARGEST_ROUND {
                    return None;
                }
                said.taken = Some(now);
                let chunk = said.output.take();
                bytes += chunk.as_ref().map_or(0, |chunk| chunk.text.len());
                Some(Word {
                    key: *key,
                    progress: said.progress.take(),
                    chunk,
                })
            })
            .collect()
    }

    /// These are on disk.
    pub fn written(&self, words: &[Word], keys: &HashSet<Key>) {
        let mut said = self.lock();
        for word in words.iter().filter(|word| keys.contains(&word.key)) {
            if let Some(chunk) = &word.chunk
                && let Some(said) = said.get_mut(&word.key)
            {
                said.output.written(chunk.seq);
            }
        }
    }

    /// These attempts have ended, or are somebody else's by now: nothing of theirs is written any more.
    pub fn forget(&self, keys: impl IntoIterator<Item = Key>) {
        self.change(|said| {
            for key in keys {
                // Dropping it lets whoever waits for room go on.
                said.remove(&key);
            }
        });
    }

    /// What this attempt says can't be stored: the word is dropped, and no more output is taken.
    pub fn refuse(&self, key: Key) {
        if let Some(said) = self.lock().get_mut(&key) {
            said.output.close();
        }
    }

    /// These could not be written; where there is newer progress, that counts.
    pub fn put_back(&self, words: Vec<Word>) {
        let mut said = self.lock();
        for word in words {
            if let Some(said) = said.get_mut(&word.key)
                && said.progress.is_none()
            {
                said.progress = word.progress;
            }
        }
    }

    /// The end of an attempt: its output that is not known to be on disk, to be written with its outcome.
    pub fn finish(&self, key: Key) -> Vec<Chunk> {
        // For the many that say nothing.
        if self.0.entries.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        self.change(|said| said.remove(&key))
            .map_or_else(Vec::new, |said| said.output.rest())
    }
}
