//! The laws, and what must be remembered to check them.

use super::workers::Worker;
use diesel::{
    PgConnection, RunQueryDsl,
    sql_types::{Bool, Integer, Nullable, Text, Uuid as SqlUuid},
};
use proptest::{prelude::*, test_runner::TestCaseError};
use shared::{
    statement,
    task::Status::{self, *},
};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

type Law = Result<(), TestCaseError>;

/// A task and an attempt at it.
pub(super) type Key = (Uuid, i32);

statement! {
    struct All -> (SqlUuid, Text, Integer, Nullable<SqlUuid>, Bool, Bool, Bool, Bool, Bool) {}
    "SELECT id, status, attempt, worker_id, finished_at IS NOT NULL, due_at IS NOT NULL, on_worker_lost = 'hold',
        (point_of_no_return_at IS NOT NULL) = (on_worker_lost = 'hold' AND kind = 'demo.noop'), limit_key IS NOT NULL
     FROM tasks ORDER BY id"
}

/// A task's row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a question of its own"
)]
pub(super) struct Seen {
    pub(super) id: Uuid,
    pub(super) status: Status,
    attempt: i32,
    worker: Option<Uuid>,
    is_finished: bool,
    is_due_later: bool,
    is_to_be_held: bool,
    /// Its point of no return stands as a claim leaves it.
    is_as_claimed: bool,
    is_limited: bool,
}

impl Seen {
    pub(super) fn all(connection: &mut PgConnection) -> Vec<Self> {
        type Row = (
            Uuid,
            String,
            i32,
            Option<Uuid>,
            bool,
            bool,
            bool,
            bool,
            bool,
        );
        let rows: Vec<Row> = (&All {}).load(connection).unwrap();
        let seen = |(
            id,
            status,
            attempt,
            worker,
            is_finished,
            is_due_later,
            is_to_be_held,
            is_as_claimed,
            is_limited,
        ): Row| Self {
            id,
            status: Status::parse(&status).unwrap(),
            attempt,
            worker,
            is_finished,
            is_due_later,
            is_to_be_held,
            is_as_claimed,
            is_limited,
        };
        rows.into_iter().map(seen).collect()
    }

    fn key(&self) -> Key {
        (self.id, self.attempt)
    }
}

/// What a step says that it has done.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) claimed: HashSet<Key>,
    pub(super) expired: HashSet<Uuid>,
    pub(super) settled: HashSet<Key>,
    pub(super) rescued: bool,
    pub(super) promoted: HashSet<Uuid>,
    pub(super) cancelled: Option<Uuid>,
    pub(super) replayed: Option<Uuid>,
    pub(super) rescheduled: Option<Uuid>,
    pub(super) resolved: Option<Uuid>,
}

#[derive(Debug, Default)]
pub(super) struct Record {
    /// Attempts that a worker was given.
    begun: HashSet<Key>,
    /// Attempts whose outcome was taken, or that were rescued.
    ended: HashSet<Key>,
    /// How often a task became final.
    ends: HashMap<Uuid, u32>,
    /// How often a person had a final task run again.
    replays: HashMap<Uuid, u32>,
    /// How often a task had its effect.
    pub(super) effects: HashMap<Uuid, u32>,
    /// Messages that the broker has lost.
    pub(super) missing: HashSet<Key>,
}

impl Record {
    pub(super) fn begin(&mut self, claimed: &HashSet<Key>) -> Law {
        for key in claimed {
            prop_assert!(self.begun.insert(*key), "claimed twice: {key:?}");
        }
        Ok(())
    }

    pub(super) fn end(&mut self, ended: &HashSet<Key>) -> Law {
        for key in ended {
            prop_assert!(self.begun.contains(key), "ended unbegun: {key:?}");
            prop_assert!(self.ended.insert(*key), "ended twice: {key:?}");
        }
        Ok(())
    }

    /// Nothing changes but by who may, and in the way that this may.
    pub(super) fn check_changes(
        &mut self,
        before: &[Seen],
        after: &[Seen],
        done: &Done,
        alive: &HashSet<Uuid>,
    ) -> Law {
        // Tasks are neither deleted nor reordered; a new one comes last.
        for (was, is) in before.iter().zip(after) {
            prop_assert_eq!(was.id, is.id, "a task is gone");
            let is_claimed = was.status != is.status && is.status == Processing;
            prop_assert_eq!(
                is.attempt,
                was.attempt + i32::from(is_claimed),
                "{:?} -> {:?}",
                was,
                is
            );
            if was.status != is.status {
                let lawful = may_become(was, is, done, alive);
                prop_assert!(lawful, "{was:?} -> {is:?} after {done:?}");
                if was.status == Processing && !done.settled.contains(&was.key()) {
                    self.end(&HashSet::from([was.key()]))?;
                }
                if was.status.is_final() && is.status == Pending {
                    *self.replays.entry(is.id).or_default() += 1;
                } else if !was.status.is_final() && is.status.is_final() {
                    *self.ends.entry(is.id).or_default() += 1;
                }
            }
        }
        prop_assert!(before.len() <= after.len(), "a task is gone");
        for task in after {
            prop_assert_eq!(task.is_finished, task.status.is_final(), "{:?}", task);
            let count = |counts: &HashMap<Uuid, u32>| counts.get(&task.id).copied().unwrap_or(0);
            let repeated = count(&self.effects) > 1 + count(&self.replays);
            prop_assert!(!(task.is_to_be_held && repeated), "repeated: {task:?}");
        }
        Ok(())
    }

    /// What waits has a due time, or a message for its next attempt.
    pub(super) fn check_waiting(&self, tasks: &[Seen], messages: &HashSet<Key>) -> Law {
        for task in tasks {
            let next = (task.id, task.attempt + 1);
            let is_kept = match task.status {
                Scheduled => task.is_due_later,
                Pending | Retrying => {
                    task.is_due_later || messages.contains(&next) || self.missing.contains(&next)
                }
                _ => true,
            };
            prop_assert!(is_kept, "lost: {task:?}");
        }
        Ok(())
    }

    /// Everything has ended, once.
    pub(super) fn check_end(&self, tasks: &[Seen]) -> Law {
        for task in tasks {
            prop_assert!(task.status.is_final(), "never ends: {task:?}");
            let count = |counts: &HashMap<Uuid, u32>| counts.get(&task.id).copied().unwrap_or(0);
            prop_assert_eq!(count(&self.ends), 1 + count(&self.replays), "{:?}", task);
        }
        prop_assert_eq!(&self.begun, &self.ended, "attempts without an end");
        Ok(())
    }
}

/// The limit lets one task run at a time, whatever becomes of workers.
pub(super) fn check_limit(tasks: &[Seen]) -> Law {
    let is_one = |task: &&Seen| task.is_limited && task.status == Processing;
    let running: Vec<_> = tasks.iter().filter(is_one).collect();
    prop_assert!(running.len() <= 1, "over the limit: {running:?}");
    Ok(())
}

/// What runs is with its worker, or will be found by a reaper.
pub(super) fn check_running(tasks: &[Seen], alive: &HashSet<Uuid>, workers: &[Worker]) -> Law {
    for task in tasks.iter().filter(|task| task.status == Processing) {
        prop_assert!(task.worker.is_some(), "{task:?}");
        let Some(id) = task.worker.filter(|id| alive.contains(id)) else {
            continue;
        };
        let has = |worker: &Worker| {
            worker.crashed || worker.running.iter().any(|one| one.key() == task.key())
        };
        let is_held = workers.iter().any(|worker| worker.id == id && has(worker));
        prop_assert!(is_held, "forgotten by its worker: {task:?}");
    }
    Ok(())
}

fn may_become(was: &Seen, is: &Seen, done: &Done, alive: &HashSet<Uuid>) -> bool {
    let by = |who: Option<Uuid>| who == Some(was.id);
    match (was.status, is.status) {
        (Pending | Retrying, Processing) => done.claimed.contains(&is.key()) && is.is_as_claimed,
        (Pending | Retrying, Expired) => done.expired.contains(&was.id),
        (Processing, Pending | Retrying | Completed | Failed | Cancelled | Unknown) => {
            let is_lost = done.rescued && was.worker.is_some_and(|id| !alive.contains(&id));
            done.settled.contains(&was.key()) || is_lost && is.status != Completed
        }
        (Scheduled, Pending) if done.promoted.contains(&was.id) => true,
        (Scheduled | Pending | Retrying, Cancelled) => by(done.cancelled),
        (Scheduled | Retrying | Failed | Cancelled | Expired | Unknown, Pending) => {
            by(done.replayed)
        }
        (Pending, Scheduled) => by(done.rescheduled),
        (Unknown, Completed | Failed) => by(done.resolved),
        _ => false,
    }
}
