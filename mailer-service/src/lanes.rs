//! Which lane the next free slot goes to: each lane has reserved slots and lends the idle ones, so a high
//! task starts with the next slot that falls free and low ones never starve. With fewer slots than lanes not
//! every lane has one of its own; then whoever was passed over often enough is next.

use shared::task::Lane;

/// One number for each lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerLane([usize; 3]);

impl PerLane {
    pub fn get(self, lane: Lane) -> usize {
        self.0[lane as usize]
    }

    pub fn set(&mut self, lane: Lane, value: usize) {
        self.0[lane as usize] = value;
    }

    pub fn add(&mut self, lane: Lane, count: usize) {
        self.0[lane as usize] += count;
    }

    pub fn remove_one(&mut self, lane: Lane) {
        let count = &mut self.0[lane as usize];
        *count = count.saturating_sub(1);
    }

    pub fn sum(self) -> usize {
        self.0.iter().sum()
    }
}

/// The reserved share of each lane: a quarter high, a half normal, an eighth low, and at least one each.
/// What is left over goes to whoever has priority.
pub fn reserved(slots: usize) -> PerLane {
    let mut reserved = PerLane::default();
    for (lane, part) in [
        (Lane::High, slots / 4),
        (Lane::Normal, slots / 2),
        (Lane::Low, slots / 8),
    ] {
        reserved.set(lane, part.max(1));
    }
    reserved
}

/// So many others get a slot before a lane of which nothing runs.
const PATIENCE: usize = 8;

/// Gives out slots.
#[derive(Debug)]
pub struct Turns {
    reserved: PerLane,
    /// Slots that others got while a lane waited without one.
    passed_over: PerLane,
}

impl Turns {
    pub fn new(slots: usize) -> Self {
        Self {
            reserved: reserved(slots),
            passed_over: PerLane::default(),
        }
    }

    /// The lane that gets the next slot: one that was passed over for too long, else one that is below its reservation,
    /// else the highest that waits.
    pub fn next_lane(&mut self, waiting: PerLane, running: PerLane) -> Option<Lane> {
        let waits = |lane: &&Lane| waiting.get(**lane) > 0;
        let starves = |lane: &&Lane| self.passed_over.get(**lane) >= PATIENCE;
        let is_entitled = |lane: &&Lane| running.get(**lane) < self.reserved.get(**lane);
        let all = || Lane::ALL.iter().filter(waits);
        let next = all()
            .find(starves)
            .or_else(|| all().find(is_entitled))
            .or_else(|| all().next())
            .copied()?;
        for lane in Lane::ALL {
            if *lane == next || waiting.get(*lane) == 0 || running.get(*lane) > 0 {
                self.passed_over.set(*lane, 0);
            } else {
                self.passed_over.add(*lane, 1);
            }
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Fills every free slot and says how many each lane runs.
    fn fill(mut waiting: PerLane, mut running: PerLane, slots: usize) -> PerLane {
        let mut turns = Turns::new(slots);
        while running.sum() < slots {
            let Some(lane) = turns.next_lane(waiting, running) else {
                break;
            };
            waiting.remove_one(lane);
            running.add(lane, 1);
        }
        running
    }

    #[test]
    fn idle_slots_are_lent() {
        assert_eq!(
            fill(PerLane([0, 0, 100]), PerLane::default(), 16),
            PerLane([0, 0, 16])
        );
    }

    #[test]
    fn the_next_free_slot_goes_to_a_high_task() {
        assert_eq!(
            Turns::new(16).next_lane(PerLane([1, 50, 50]), PerLane([0, 0, 15])),
            Some(Lane::High)
        );
    }

    #[test]
    fn a_flood_of_high_tasks_leaves_low_its_share() {
        assert_eq!(
            fill(PerLane([100, 100, 100]), PerLane::default(), 16),
            PerLane([6, 8, 2])
        );
    }

    proptest! {
        #[test]
        fn no_slot_stays_idle_and_none_is_invented(waiting: [u8; 3], slots in 1_usize..100) {
            let waiting = PerLane(waiting.map(usize::from));
            let running = fill(waiting, PerLane::default(), slots);
            prop_assert_eq!(running.sum(), slots.min(waiting.sum()));
        }

        /// Every lane has more to do than there are slots, and tasks end in any order.
        #[test]
        fn no_lane_waits_for_ever(slots in 1_usize..20, ends in proptest::collection::vec(0_usize..20, 400)) {
            let waiting = PerLane([1000; 3]);
            let mut turns = Turns::new(slots);
            let mut running: Vec<Lane> = Vec::new();
            let mut idle_for = PerLane::default();
            for end in ends {
                if running.len() == slots {
                    running.swap_remove(end % slots);
                }
                let count = |lane| running.iter().filter(|one| **one == lane).count();
                let now = PerLane([count(Lane::High), count(Lane::Normal), count(Lane::Low)]);
                let next = turns.next_lane(waiting, now).unwrap();
                for lane in Lane::ALL {
                    let is_served = *lane == next || now.get(*lane) > 0;
                    idle_for.set(*lane, if is_served { 0 } else { idle_for.get(*lane) + 1 });
                    // Two may be due at the same time.
                    prop_assert!(idle_for.get(*lane) <= PATIENCE + 1, "{lane} with {slots} slots");
                }
                running.push(next);
            }
        }
    }
}
