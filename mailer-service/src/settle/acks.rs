//! Which deliveries of a channel can be acknowledged, and how: a run of settled tags from the front goes
//! in one frame (`multiple`), and a tag behind a task that takes long goes alone after a moment.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

/// How long a settled tag waits for the ones before it.
const PATIENCE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// Every tag up to this one.
    UpTo(u64),
    One(u64),
    /// Dead-letters the message.
    Reject(u64),
    /// Puts the message back into its queue.
    Requeue(u64),
}

/// The tags of one channel; RabbitMQ numbers deliveries 1, 2, 3, …
///
/// However long one task holds up the front, a flush looks only at what has become due since the last.
#[derive(Debug)]
pub struct Acks {
    /// The lowest tag that is not settled.
    next: u64,
    /// Settled and not acknowledged yet.
    waiting: HashSet<u64>,
    /// The same in the order of settling, and some that have gone since.
    order: VecDeque<(Instant, u64)>,
    /// Acknowledged or rejected by themselves, ahead of `next`.
    gone: Ranges,
}

impl Default for Acks {
    fn default() -> Self {
        Self {
            next: 1,
            waiting: HashSet::new(),
            order: VecDeque::new(),
            gone: Ranges::default(),
        }
    }
}

impl Acks {
    pub fn settled(&mut self, tag: u64, now: Instant) {
        if tag >= self.next && !self.gone.contains(tag) && self.waiting.insert(tag) {
            self.order.push_back((now, tag));
        }
    }

    /// For a message that nobody can read.
    pub fn reject(&mut self, tag: u64) -> Ack {
        self.waiting.remove(&tag);
        self.gone.insert(tag);
        Ack::Reject(tag)
    }

    /// For a message that this process does not want now.
    pub fn requeue(&mut self, tag: u64) -> Ack {
        self.waiting.remove(&tag);
        self.gone.insert(tag);
        Ack::Requeue(tag)
    }

    /// The frames to send now.
    pub fn flush(&mut self, now: Instant) -> Vec<Ack> {
        let mut frames = Vec::new();
        // The tag named in a multiple ack must itself still be outstanding.
        let mut last = None;
        loop {
            if self.waiting.remove(&self.next) {
                last = Some(self.next);
                self.next += 1;
            } else if let Some(end) = self.gone.take_from(self.next) {
                self.next = end + 1;
            } else {
                break;
            }
        }
        frames.extend(last.map(Ack::UpTo));
        while let Some((since, tag)) = self.order.front().copied()
            && (now.duration_since(since) >= PATIENCE || !self.waiting.contains(&tag))
        {
            self.order.pop_front();
            if self.waiting.remove(&tag) {
                self.gone.insert(tag);
                frames.push(Ack::One(tag));
            }
        }
        frames
    }

    /// Whether a later flush may have frames to send.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// A set of numbers, kept as ranges that don't touch: first → last.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn contains(&self, number: u64) -> bool {
        let before = self.0.range(..=number).next_back();
        before.is_some_and(|(_, last)| *last >= number)
    }

    fn insert(&mut self, number: u64) {
        if self.contains(number) {
            return;
        }
        let last = self.0.remove(&(number + 1)).unwrap_or(number);
        match self.0.range_mut(..number).next_back() {
            Some((_, before)) if *before + 1 == number => *before = last,
            _ => {
                self.0.insert(number, last);
            }
        }
    }

    /// Removes the range that begins there; its last number.
    fn take_from(&mut self, first: u64) -> Option<u64> {
        self.0.remove(&first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_run_from_the_front_goes_in_one_frame() {
        let (mut acks, now) = (Acks::default(), Instant::now());
        for tag in [3, 1, 2, 5] {
            acks.settled(tag, now);
        }
        assert_eq!(acks.flush(now), [Ack::UpTo(3)]);
        assert!(acks.is_waiting());
        assert_eq!(acks.flush(now + PATIENCE), [Ack::One(5)]);
        acks.settled(4, now);
        assert_eq!(acks.flush(now), [Ack::UpTo(4)]);
        assert!(!acks.is_waiting());
    }

    #[test]
    fn a_rejected_tag_is_never_named_again() {
        let (mut acks, now) = (Acks::default(), Instant::now());
        acks.settled(1, now);
        assert_eq!(acks.reject(2), Ack::Reject(2));
        assert_eq!(acks.flush(now), [Ack::UpTo(1)]);
        acks.settled(3, now);
        assert_eq!(acks.flush(now), [Ack::UpTo(3)]);
    }

    #[test]
    fn one_slow_task_costs_nothing_more_with_time() {
        let (mut acks, mut now) = (Acks::default(), Instant::now());
        for tag in 2..10_000 {
            acks.settled(tag, now);
            now += Duration::from_millis(1);
            acks.flush(now);
        }
        acks.flush(now + PATIENCE);
        assert!(!acks.is_waiting() && acks.order.is_empty());
        assert_eq!(acks.gone.0.len(), 1);
        acks.settled(1, now);
        assert_eq!(acks.flush(now), [Ack::UpTo(1)]);
        assert_eq!(acks.next, 10_000);
        assert!(acks.gone.0.is_empty());
    }

    proptest! {
        #[test]
        fn ranges_are_a_set(numbers in proptest::collection::vec(1_u64..40, 0..40)) {
            let mut ranges = Ranges::default();
            for number in &numbers {
                ranges.insert(*number);
            }
            for number in 0..42 {
                prop_assert_eq!(ranges.contains(number), numbers.contains(&number));
            }
            let mut ends = ranges.0.iter().peekable();
            while let (Some((_, last)), Some((next, _))) = (ends.next(), ends.peek().copied()) {
                prop_assert!(last + 1 < *next);
            }
        }

        /// A broker's book: every frame must name outstanding tags only, and in the end none is left.
        #[test]
        fn every_delivery_is_acknowledged_exactly_once(order in Just((1_u64..60).collect::<Vec<_>>()).prop_shuffle(), pauses in proptest::collection::vec(0_u64..60, 60)) {
            let mut acks = Acks::default();
            let mut outstanding: std::collections::BTreeSet<u64> = (1..60).collect();
            let mut now = Instant::now();
            let mut apply = |frames: Vec<Ack>| -> Result<(), TestCaseError> {
                for frame in frames {
                    match frame {
                        Ack::One(tag) | Ack::Reject(tag) | Ack::Requeue(tag) => prop_assert!(outstanding.remove(&tag)),
                        Ack::UpTo(tag) => {
                            prop_assert!(outstanding.contains(&tag));
                            outstanding.retain(|other| *other > tag);
                        }
                    }
                }
                Ok(())
            };
            for (tag, pause) in order.iter().zip(pauses) {
                now += Duration::from_millis(pause);
                if tag % 7 == 0 { apply(vec![acks.reject(*tag)])?; } else if tag % 11 == 0 { apply(vec![acks.requeue(*tag)])?; } else { acks.settled(*tag, now); }
                apply(acks.flush(now))?;
            }
            apply(acks.flush(now + PATIENCE))?;
            prop_assert!(outstanding.is_empty());
        }
    }
}
