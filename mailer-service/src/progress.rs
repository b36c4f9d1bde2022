//! How far running attempts have come, as their handlers say. Only the latest word of each is kept, and the control
//! thread writes all of them at once, so a handler may report as often as it likes.

use crate::registry::Key;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Characters of a note that are kept.
const LONGEST_NOTE: usize = 500;

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Progress {
    /// 0 to 100.
    pub percent: Option<f64>,
    pub note: Option<String>,
}

/// What was said since the last writing; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<HashMap<Key, Progress>>>);

impl Board {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.lock().insert(key, progress);
    }

    /// Takes everything that was said since the last call.
    pub fn take(&self) -> HashMap<Key, Progress> {
        std::mem::take(&mut *self.lock())
    }

    /// Puts back what could not be written, unless there is newer word.
    pub fn put_back(&self, unwritten: HashMap<Key, Progress>) {
        let mut board = self.lock();
        for (key, progress) in unwritten {
            board.entry(key).or_insert(progress);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::task::TaskId;

    #[test]
    fn the_latest_word_counts() {
        let (board, key) = (Board::default(), (TaskId::now(), 1));
        board.report(key, Some(140.0), Some("a\0b"));
        let first = board.take();
        assert_eq!(first[&key].percent, Some(100.0));
        assert_eq!(first[&key].note.as_deref(), Some("ab"));
        board.report(key, Some(f64::NAN), None);
        board.put_back(first);
        assert_eq!(board.take()[&key].percent, None);
        assert!(board.take().is_empty());
    }
}
