//! What this process is running: one entry per claimed attempt, from claim to settlement.
//!
//! When a channel is lost, RabbitMQ delivers the messages of running tasks again; the entry adopts the new
//! delivery, so that the settlement acknowledges the one that counts.

use crate::settle::DeliveryRef;
use shared::task::TaskId;
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub type Key = (TaskId, i32);

#[derive(Debug)]
struct Running {
    delivery: Option<DeliveryRef>,
    cancel: CancellationToken,
    since: Instant,
}

#[derive(Debug, Clone, Default)]
pub struct Registry(Arc<Mutex<HashMap<Key, Running>>>);

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Running>> {
        // Every change is a single map operation, so a panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an attempt before its claim. What was called up from PostgreSQL has no delivery.
    pub fn begin(
        &self,
        key: Key,
        delivery: Option<DeliveryRef>,
        cancel: &CancellationToken,
    ) -> Begin {
        match self.lock().entry(key) {
            Entry::Occupied(mut running) => {
                let kept = &mut running.get_mut().delivery;
                Begin::Adopted(delivery.and_then(|delivery| kept.replace(delivery)))
            }
            Entry::Vacant(place) => {
                place.insert(Running {
                    delivery,
                    cancel: cancel.child_token(),
                    since: Instant::now(),
                });
                Begin::New
            }
        }
    }

    /// The cancellation signal of a running attempt.
    pub fn cancel_token(&self, key: Key) -> CancellationToken {
        self.lock()
            .get(&key)
            .map_or_else(CancellationToken::new, |running| running.cancel.clone())
    }

    /// Takes the delivery out if the attempt, which may take so long still, might end too late for it.
    pub fn release_delivery(&self, key: Key, may_take: Duration, within: Duration) -> Release {
        let mut all = self.lock();
        let Some(kept) = all.get_mut(&key).map(|running| &mut running.delivery) else {
            return Release::None;
        };
        let is_late = |delivery: &mut DeliveryRef| delivery.since.elapsed() + may_take > within;
        match kept.take_if(is_late) {
            Some(delivery) => Release::Acknowledge(delivery),
            None if kept.is_some() => Release::Keep,
            None => Release::None,
        }
    }

    /// Ends an entry; its delivery can be acknowledged now.
    pub fn end(&self, key: Key) -> Option<DeliveryRef> {
        self.lock()
            .remove(&key)
            .and_then(|running| running.delivery)
    }

    /// The tasks that run here.
    pub fn tasks(&self) -> Vec<Uuid> {
        self.lock().keys().map(|(task, _)| task.0).collect()
    }

    /// The attempts that have run longest, with when they began; at most `most`.
    pub fn longest(&self, most: usize) -> Vec<(Key, Instant)> {
        let mut all: Vec<_> = self
            .lock()
            .iter()
            .map(|(key, running)| (*key, running.since))
            .collect();
        all.sort_by_key(|(_, since)| *since);
        all.truncate(most);
        all
    }

    /// Asks one attempt to stop, if it runs here.
    pub fn cancel(&self, key: Key) {
        if let Some(running) = self.lock().get(&key) {
            running.cancel.cancel();
        }
    }

    /// Asks every running attempt to stop.
    pub fn cancel_all(&self) {
        for running in self.lock().values() {
            running.cancel.cancel();
        }
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

/// What to do with the delivery of an attempt that begins.
#[derive(Debug)]
pub enum Release {
    /// There is none: it was called up from PostgreSQL.
    None,
    /// It is acknowledged when the attempt ends.
    Keep,
    /// Now: from here on the lease alone protects the task.
    Acknowledge(DeliveryRef),
}

#[derive(Debug)]
pub enum Begin {
    New,
    /// The attempt runs here already and has taken over the delivery; the earlier one can be acknowledged.
    Adopted(Option<DeliveryRef>),
}
