//! The conservation law where only the broker can tell: waiting tasks against messages.
//!
//! A queue's ready messages are known; what workers hold unacknowledged is not, but is bounded: a worker keeps a message
//! waiting only while all slots of that queue are taken, and never more than its prefetch for each consumer.

use crate::{
    queries::{doctor::LaneRow, workers::Room},
    sight::Sight,
};
use shared::{
    task::{Lane, Queue},
    topology,
};
use std::collections::{BTreeMap, HashMap};

/// How many tasks at least wait for a message that is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// By `<queue>.<lane>`; only lanes with a deficit.
    pub(crate) lanes: BTreeMap<String, i64>,
    /// In the delay tiers.
    pub(crate) delayed: i64,
}

impl Missing {
    /// `rooms`: by queue, as the workers report them.
    pub(crate) fn of(rows: &[LaneRow], sight: &Sight, rooms: &HashMap<String, Room>) -> Self {
        let mut lanes = BTreeMap::new();
        for row in rows {
            let (Some(queue), Some(lane)) = (Queue::parse(&row.queue), Lane::parse(&row.lane))
            else {
                continue;
            };
            let running: i64 = rows
                .iter()
                .filter(|other| other.queue == row.queue)
                .map(|other| other.running)
                .sum();
            let room = rooms.get(&row.queue).copied().unwrap_or(Room::UNKNOWN);
            let there = sight.lane(queue, lane);
            let unacknowledged = if running >= room.slots {
                i64::from(there.consumers) * room.prefetch
            } else {
                0
            };
            let missing = row.waiting - i64::from(there.ready) - unacknowledged;
            if missing > 0 {
                lanes.insert(topology::routing_key(queue, lane), missing);
            }
        }
        let delayed: i64 = rows.iter().map(|row| row.delayed).sum();
        Self {
            lanes,
            delayed: (delayed - i64::from(sight.in_tiers())).max(0),
        }
    }

    /// What is missing by both counts. They are not of one moment, so one alone may be wrong.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let lanes = self.lanes.iter().filter_map(|(lane, count)| {
            let less = *other.lanes.get(lane)?.min(count);
            Some((lane.clone(), less))
        });
        Self {
            lanes: lanes.collect(),
            delayed: self.delayed.min(other.delayed),
        }
    }

    /// Of all lanes.
    pub(crate) fn waiting(&self) -> i64 {
        self.lanes.values().sum()
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.lanes.is_empty() && self.delayed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sight::Held;

    fn row(lane: &str, waiting: i64, delayed: i64, running: i64) -> LaneRow {
        LaneRow {
            queue: "ai".into(),
            lane: lane.into(),
            waiting,
            delayed,
            running,
        }
    }

    fn missing(rows: &[LaneRow], ready: u32, consumers: u32) -> Missing {
        let held = Held { ready, consumers };
        let sight = Sight::holding(&[("warren.tasks.ai.normal", held)]);
        let room = Room {
            slots: 8,
            prefetch: 32,
        };
        Missing::of(rows, &sight, &HashMap::from([("ai".into(), room)]))
    }

    #[test]
    fn messages_that_are_ready_account_for_as_many_tasks() {
        let rows = [row("normal", 10, 0, 0)];
        assert!(missing(&rows, 10, 0).is_nothing());
        assert_eq!(missing(&rows, 7, 3).lanes["ai.normal"], 3);
    }

    #[test]
    fn only_a_worker_without_a_free_slot_keeps_messages_waiting() {
        let busy = [row("normal", 36, 0, 7), row("high", 0, 0, 1)];
        assert_eq!(missing(&busy, 0, 1).waiting(), 4);
        assert!(missing(&busy, 0, 2).is_nothing());
        let idle = [row("normal", 36, 0, 7)];
        assert_eq!(missing(&idle, 0, 2).waiting(), 36);
    }

    #[test]
    fn of_a_consumer_that_has_not_reported_nothing_is_said() {
        let held = Held {
            ready: 0,
            consumers: 1,
        };
        let sight = Sight::holding(&[("warren.tasks.ai.normal", held)]);
        let rows = [row("normal", 36, 0, 0)];
        assert!(Missing::of(&rows, &sight, &HashMap::new()).is_nothing());
    }

    #[test]
    fn what_only_one_count_says_is_not_believed() {
        let first = missing(&[row("normal", 9, 4, 0)], 0, 0);
        let second = missing(&[row("normal", 5, 0, 0), row("low", 5, 0, 0)], 0, 0);
        assert_eq!(first.delayed, 4);
        let both = first.and(&second);
        assert_eq!((both.waiting(), both.delayed), (5, 0));
        assert!(first.and(&Missing::default()).is_nothing());
    }
}
