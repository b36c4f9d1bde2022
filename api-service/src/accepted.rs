//! How much this process has accepted, by queue, lane and kind, on its way to the table of rates.

use crate::{intake::NewTask, queries::load::AddAccepted};
use shared::task::{Lane, Queue};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

type Counts = HashMap<(Queue, Lane, &'static str), i64>;

/// Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct Accepted(Arc<Mutex<Counts>>);

impl Accepted {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, tasks: &[NewTask]) {
        let mut counts = self.lock();
        for task in tasks {
            let key = (task.queue, task.priority.lane(), task.kind.name);
            *counts.entry(key).or_default() += 1;
        }
    }

    /// Takes what was counted since the last call, as the statement that adds it; none: nothing was.
    pub fn take(&self) -> Option<AddAccepted> {
        let counts = std::mem::take(&mut *self.lock());
        if counts.is_empty() {
            return None;
        }
        let mut add = AddAccepted::default();
        for ((queue, lane, kind), count) in counts {
            add.queue.push(queue.as_str());
            add.lane.push(lane.as_str());
            add.kind.push(kind);
            add.accepted.push(count);
        }
        Some(add)
    }
}
