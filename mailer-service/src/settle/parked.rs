//! Tells of tasks that were put aside: each is counted, and each kind is an error once, not once a task.

use crate::task::{Claimed, Failure};
use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

/// Kinds that were told of.
static TOLD: Mutex<Option<HashSet<String>>> = Mutex::new(None);

pub(super) fn log(task: &Claimed, failure: &Failure) {
    metrics::counter!("warren_tasks_parked_total", "kind" => task.kind.clone()).increment(1);
    if is_first(&task.kind) {
        tracing::error!(
            task.id = %task.id, task.kind = %task.kind, error.code = failure.code,
            "tasks of this kind are put aside: no handler for it here; deploy a worker that has one, or cancel them: {}",
            failure.message
        );
    } else {
        tracing::debug!(task.id = %task.id, task.kind = %task.kind, error.code = failure.code, "task put aside");
    }
}

fn is_first(kind: &str) -> bool {
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let told = told.get_or_insert_default();
    !told.contains(kind) && told.insert(kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_told_of_once() {
        assert!(is_first("test.parked") && !is_first("test.parked"));
        assert!(is_first("test.parked_too"));
    }
}
