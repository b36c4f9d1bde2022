//! What running attempts have to say: how far they have come, and their output. Of the progress only the latest word is
//! kept, and output is gathered, so a handler may say as much as it likes as often as it likes. The control thread
//! writes what is due of all attempts at once, and of each four times a second at most.

mod output;

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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use shared::task::TaskId;

    fn board(buffer: usize, most: usize) -> (Board, Key) {
        let limits = Limits { buffer, most };
        (Board::new(limits), (TaskId::now(), 1))
    }

    fn texts(chunks: &[Chunk]) -> Vec<(i32, &str, bool)> {
        chunks
            .iter()
            .map(|chunk| (chunk.seq, chunk.text.as_str(), chunk.truncated))
            .collect()
    }

    /// The one word that is due, much later than the one before.
    fn next(board: &Board, now: &mut Instant) -> Word {
        *now += BETWEEN;
        let mut words = board.due(*now);
        assert_eq!(words.len(), 1);
        words.remove(0)
    }

    #[test]
    fn the_latest_word_counts() {
        let (board, key) = board(64, 1000);
        let mut now = Instant::now();
        board.report(key, Some(140.0), Some("a\0b"));
        let first = next(&board, &mut now);
        let said = first.progress.clone().unwrap();
        assert_eq!(said.percent, Some(100.0));
        assert_eq!(said.note.as_deref(), Some("ab"));
        board.put_back(vec![first.clone()]);
        assert_eq!(next(&board, &mut now).progress, Some(said));
        board.report(key, Some(f64::NAN), None);
        board.put_back(vec![first]);
        assert_eq!(next(&board, &mut now).progress.unwrap().percent, None);
        now += BETWEEN;
        assert!(board.due(now).is_empty());
    }

    #[tokio::test]
    async fn an_attempt_is_written_four_times_a_second_at_most() {
        let (board, key) = board(64, 1000);
        let now = Instant::now();
        board.report(key, Some(1.0), None);
        board.emit(key, "a").await;
        let words = board.due(now);
        assert!(words[0].progress.is_some() && words[0].chunk.is_some());
        board.written(&words, &HashSet::from([key]));
        board.emit(key, "b").await;
        assert!(
            board
                .due(now + BETWEEN - Duration::from_millis(1))
                .is_empty()
        );
        // Another attempt is not held up.
        board.report((TaskId::now(), 1), Some(1.0), None);
        assert_eq!(board.due(now + BETWEEN / 2).len(), 1);
        assert_eq!(board.due(now + BETWEEN).len(), 1);
    }

    #[tokio::test]
    async fn output_is_gathered_and_numbered() {
        let (board, key) = board(64, 1000);
        let mut now = Instant::now();
        board.emit(key, "a\0").await;
        board.emit(key, "b").await;
        let first = next(&board, &mut now);
        assert_eq!(texts(first.chunk.as_slice()), [(1, "ab", false)]);
        board.emit(key, "c").await;
        // Not known to be written: the same piece again, however much has come since.
        board.put_back(vec![first]);
        let again = next(&board, &mut now);
        assert_eq!(texts(again.chunk.as_slice()), [(1, "ab", false)]);
        board.written(&[again], &HashSet::from([key]));
        let second = next(&board, &mut now);
        assert_eq!(texts(second.chunk.as_slice()), [(2, "c", false)]);
        board.emit(key, "d").await;
        // Whether the second was written nobody knows yet.
        assert_eq!(
            texts(&board.finish(key)),
            [(2, "c", false), (3, "d", false)]
        );
        assert!(board.finish(key).is_empty() && board.due(now + BETWEEN).is_empty());
    }

    #[tokio::test]
    async fn who_is_too_fast_waits() {
        let (board, key) = board(4, 1000);
        let mut now = Instant::now();
        let mut emitting = Box::pin(board.emit(key, "abcäöü"));
        assert!(emitting.as_mut().now_or_never().is_none());
        let mut written = String::new();
        loop {
            let word = next(&board, &mut now);
            let chunk = word.chunk.clone().unwrap();
            assert!(chunk.text.len() <= 4);
            written.push_str(&chunk.text);
            board.written(&[word], &HashSet::from([key]));
            if emitting.as_mut().now_or_never().is_some() {
                break;
            }
        }
        written.extend(board.finish(key).into_iter().map(|chunk| chunk.text));
        assert_eq!(written, "abcäöü");
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_the_attempt_is_somebody_elses() {
        let (board, key) = board(4, 1000);
        board.emit(key, "full").await;
        let mut emitting = Box::pin(board.emit(key, "more"));
        assert!(emitting.as_mut().now_or_never().is_none());
        board.forget([key]);
        emitting.await;
    }

    #[tokio::test]
    async fn output_is_cut_at_its_limit_and_says_so() {
        let (board, key) = board(64, 5);
        let mut now = Instant::now();
        board.emit(key, "abcd").await;
        let first = next(&board, &mut now);
        board.written(std::slice::from_ref(&first), &HashSet::from([key]));
        // Two bytes, and there is room for one.
        board.emit(key, "ä").await;
        board.emit(key, "z").await;
        assert_eq!(texts(first.chunk.as_slice()), [(1, "abcd", false)]);
        assert_eq!(texts(&board.finish(key)), [(2, "", true)]);

        let (board, key) = self::board(64, 5);
        board.emit(key, "abcdefgh").await;
        assert_eq!(texts(&board.finish(key)), [(1, "abcde", true)]);
    }
}
