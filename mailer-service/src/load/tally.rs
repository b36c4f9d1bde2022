//! Work done, by queue, lane and kind, for the rates that people see and estimates are made from.

use shared::{
    kinds,
    task::{Lane, Queue},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Kinds that this build does not know share a name, so that nobody can fill the table with names.
const UNKNOWN: &str = "unknown";

pub type Key = (Queue, Lane, &'static str);
/// What was counted, by queue, lane and kind.
pub type Sums = HashMap<Key, Counts>;

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    /// Attempts that ended.
    pub attempts: i64,
    /// Tasks that became final by them.
    pub finished: i64,
    /// Attempts that failed.
    pub failed: i64,
    pub busy: Duration,
}

/// The end of one attempt.
#[derive(Debug, Clone, Copy)]
pub struct Done<'a> {
    pub queue: Queue,
    pub lane: Lane,
    pub kind: &'a str,
    pub is_final: bool,
    pub has_failed: bool,
    pub took: Duration,
}

#[derive(Debug, Default)]
struct Inner {
    counts: Sums,
    total: u64,
}

/// Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<Mutex<Inner>>);

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note<'a>(&self, done: impl Iterator<Item = Done<'a>>) {
        let mut inner = self.lock();
        for one in done {
            let kind = kinds::find(one.kind).map_or(UNKNOWN, |kind| kind.name);
            let counts = inner.counts.entry((one.queue, one.lane, kind)).or_default();
            counts.attempts += 1;
            counts.finished += i64::from(one.is_final);
            counts.failed += i64::from(one.has_failed);
            counts.busy += one.took;
            inner.total += 1;
        }
    }

    /// Attempts that ended since the start of the process.
    pub fn total(&self) -> u64 {
        self.lock().total
    }

    /// Takes what was counted since the last call.
    pub fn take(&self) -> Sums {
        std::mem::take(&mut self.lock().counts)
    }

    /// Puts back what could not be written.
    pub fn put_back(&self, counts: Sums) {
        let mut inner = self.lock();
        for (key, old) in counts {
            let new = inner.counts.entry(key).or_default();
            new.attempts += old.attempts;
            new.finished += old.finished;
            new.failed += old.failed;
            new.busy += old.busy;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_written_is_kept() {
        let tally = Tally::default();
        let done = |kind| Done {
            queue: Queue::Work,
            lane: Lane::Low,
            kind,
            is_final: true,
            has_failed: false,
            took: Duration::from_secs(2),
        };
        tally.note([done("demo.noop"), done("not.known")].into_iter());
        let taken = tally.take();
        assert_eq!(taken[&(Queue::Work, Lane::Low, UNKNOWN)].attempts, 1);
        tally.note([done("demo.noop")].into_iter());
        tally.put_back(taken);
        let again = tally.take();
        let counts = again[&(Queue::Work, Lane::Low, "demo.noop")];
        assert_eq!((counts.attempts, counts.busy.as_secs()), (2, 4));
        assert_eq!(tally.total(), 3);
        assert!(tally.take().is_empty());
    }
}
