//! Which deliveries of a channel can be acknowledged, and how: a run of settled tags from the front goes
//! in one frame (`multiple`), and a tag behind a task that takes long goes alone after a moment.

use std::{
    collections::BTreeMap,
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Settled(Instant),
    /// Acknowledged by itself already.
    Gone,
}

/// The tags of one channel; RabbitMQ numbers deliveries 1, 2, 3, …
#[derive(Debug)]
pub struct Acks {
    /// The lowest tag that is not settled.
    next: u64,
    ahead: BTreeMap<u64, Tag>,
}

impl Default for Acks {
    fn default() -> Self {
        Self {
            next: 1,
            ahead: BTreeMap::new(),
        }
    }
}

impl Acks {
    pub fn settled(&mut self, tag: u64, now: Instant) {
        if tag >= self.next {
            self.ahead.entry(tag).or_insert(Tag::Settled(now));
        }
    }

    /// For a message that nobody can read.
    pub fn reject(&mut self, tag: u64) -> Ack {
        self.ahead.insert(tag, Tag::Gone);
        Ack::Reject(tag)
    }

    /// The frames to send now.
    pub fn flush(&mut self, now: Instant) -> Vec<Ack> {
        let mut frames = Vec::new();
        // The tag named in a multiple ack must itself still be outstanding.
        let mut last = None;
        while let Some(tag) = self.ahead.remove(&self.next) {
            if matches!(tag, Tag::Settled(_)) {
                last = Some(self.next);
            }
            self.next += 1;
        }
        frames.extend(last.map(Ack::UpTo));
        for (tag, state) in &mut self.ahead {
            if matches!(*state, Tag::Settled(since) if now.duration_since(since) >= PATIENCE) {
                *state = Tag::Gone;
                frames.push(Ack::One(*tag));
            }
        }
        frames
    }

    /// Whether a later flush may have frames to send.
    pub fn is_waiting(&self) -> bool {
        self.ahead
            .values()
            .any(|tag| matches!(tag, Tag::Settled(_)))
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

    proptest! {
        /// A broker's book: every frame must name outstanding tags only, and in the end none is left.
        #[test]
        fn every_delivery_is_acknowledged_exactly_once(order in Just((1_u64..60).collect::<Vec<_>>()).prop_shuffle(), pauses in proptest::collection::vec(0_u64..60, 60)) {
            let mut acks = Acks::default();
            let mut outstanding: std::collections::BTreeSet<u64> = (1..60).collect();
            let mut now = Instant::now();
            let mut apply = |frames: Vec<Ack>| -> Result<(), TestCaseError> {
                for frame in frames {
                    match frame {
                        Ack::One(tag) | Ack::Reject(tag) => prop_assert!(outstanding.remove(&tag)),
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
                if tag % 7 == 0 { apply(vec![acks.reject(*tag)])?; } else { acks.settled(*tag, now); }
                apply(acks.flush(now))?;
            }
            apply(acks.flush(now + PATIENCE))?;
            prop_assert!(outstanding.is_empty());
        }
    }
}
