//! How busy this process is, by queue: written by the dispatchers, read by whoever reports it or looks for room.

pub mod tally;

use serde_json::json;
use shared::{config::WorkerQueue, task::Queue};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// One queue's numbers. Each is exact; together they may be a moment apart.
#[derive(Debug, Default)]
struct QueueLoad {
    slots: AtomicUsize,
    /// The most that is held of each lane.
    prefetch: AtomicUsize,
    running: AtomicUsize,
    /// Deliveries that wait here for a slot.
    held: AtomicUsize,
    /// Of those, tasks called up from the line of a limit.
    called: AtomicUsize,
    /// Deliveries that are not acknowledged: of what waits here and of what runs.
    unacked: AtomicUsize,
}

/// Clones share the numbers.
#[derive(Debug, Clone, Default)]
pub struct Loads(Arc<[QueueLoad; 3]>);

impl Loads {
    pub fn set_room(&self, queue: Queue, room: &WorkerQueue) {
        let load = &self.0[queue as usize];
        load.slots.store(room.slots, Ordering::Relaxed);
        load.prefetch
            .store(room.prefetch().into(), Ordering::Relaxed);
    }

    pub fn set(&self, queue: Queue, running: usize, held: usize, unacked: usize) {
        let load = &self.0[queue as usize];
        load.running.store(running, Ordering::Relaxed);
        load.held.store(held, Ordering::Relaxed);
        load.unacked.store(unacked, Ordering::Relaxed);
    }

    /// Room for tasks from the lines of limits: slots that nothing waits for, and an eighth of all however much waits.
    pub fn room(&self, queue: Queue) -> usize {
        let load = &self.0[queue as usize];
        let slots = load.slots.load(Ordering::Relaxed);
        let taken = load.running.load(Ordering::Relaxed) + load.held.load(Ordering::Relaxed);
        let share = slots.div_ceil(8);
        slots
            .saturating_sub(taken)
            .max(share.saturating_sub(load.called.load(Ordering::Relaxed)))
    }

    /// Notes that one was called up.
    pub fn called(&self, queue: Queue) {
        self.0[queue as usize]
            .called
            .fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that one that was called up waits no longer.
    pub fn begun(&self, queue: Queue) {
        self.0[queue as usize]
            .called
            .fetch_sub(1, Ordering::Relaxed);
    }

    /// Nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.0.iter().all(|load| {
            load.running.load(Ordering::Relaxed) == 0 && load.held.load(Ordering::Relaxed) == 0
        })
    }

    /// `{"mail": {"slots", "prefetch", "running", "held", "unacked"}, …}`, of the queues that are consumed.
    pub fn to_json(&self) -> serde_json::Value {
        let queues = Queue::ALL.iter().filter_map(|queue| {
            let load = &self.0[*queue as usize];
            let slots = load.slots.load(Ordering::Relaxed);
            let report = json!({
                "slots": slots,
                "prefetch": load.prefetch.load(Ordering::Relaxed),
                "running": load.running.load(Ordering::Relaxed),
                "held": load.held.load(Ordering::Relaxed),
                "unacked": load.unacked.load(Ordering::Relaxed),
            });
            (slots > 0).then(|| (queue.as_str().to_owned(), report))
        });
        serde_json::Value::Object(queues.collect())
    }
}

/// Resident memory of this process, in bytes; none where `/proc` does not tell.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_in_free_slots_and_a_little_always() {
        let loads = Loads::default();
        let room = WorkerQueue {
            slots: 16,
            prefetch: 0,
        };
        loads.set_room(Queue::Work, &room);
        assert!(loads.is_idle());
        loads.set(Queue::Work, 2, 1, 3);
        assert_eq!((loads.room(Queue::Work), loads.room(Queue::Mail)), (13, 0));
        assert!(!loads.is_idle());
        assert_eq!(
            loads.to_json().to_string(),
            r#"{"work":{"held":1,"prefetch":64,"running":2,"slots":16,"unacked":3}}"#
        );
        loads.set(Queue::Work, 16, 900, 916);
        assert_eq!(loads.room(Queue::Work), 2);
        loads.called(Queue::Work);
        assert_eq!(loads.room(Queue::Work), 1);
        loads.begun(Queue::Work);
        assert_eq!(loads.room(Queue::Work), 2);
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
