//! Which lane the next free slot goes to: each lane has reserved slots and lends the idle ones, so a high
//! task starts with the next slot that falls free and low ones never starve.

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

/// The lane that gets the next slot: first one that is below its reservation, else the highest that waits.
pub fn next_lane(waiting: PerLane, running: PerLane, reserved: PerLane) -> Option<Lane> {
    let waits = |lane: &&Lane| waiting.get(**lane) > 0;
    Lane::ALL
        .iter()
        .filter(waits)
        .find(|lane| running.get(**lane) < reserved.get(**lane))
        .or_else(|| Lane::ALL.iter().find(waits))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Fills every free slot and says how many each lane runs.
    fn fill(mut waiting: PerLane, mut running: PerLane, slots: usize) -> PerLane {
        while running.sum() < slots {
            let Some(lane) = next_lane(waiting, running, reserved(slots)) else {
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
            next_lane(PerLane([1, 50, 50]), PerLane([0, 0, 15]), reserved(16)),
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
    }
}
