//! What waits here for a slot, by lane.

use crate::{lanes::PerLane, settle::DeliveryRef};
use shared::{envelope::Envelope, task::Lane};
use std::{collections::VecDeque, time::Duration};
use uuid::Uuid;

#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// In the order in which they came.
    delivered: [VecDeque<(Envelope, DeliveryRef)>; 3],
    /// From the lines of limits; they go first.
    called: [VecDeque<Envelope>; 3],
}

impl Waiting {
    pub(super) fn push(&mut self, envelope: Envelope, delivery: DeliveryRef) {
        self.delivered[envelope.lane as usize].push_back((envelope, delivery));
    }

    pub(super) fn push_called(&mut self, envelope: Envelope) {
        self.called[envelope.lane as usize].push_back(envelope);
    }

    /// The next of a lane; without a delivery it was called up.
    pub(super) fn pop(&mut self, lane: Lane) -> Option<(Envelope, Option<DeliveryRef>)> {
        if let Some(envelope) = self.called[lane as usize].pop_front() {
            return Some((envelope, None));
        }
        let (envelope, delivery) = self.delivered[lane as usize].pop_front()?;
        Some((envelope, Some(delivery)))
    }

    pub(super) fn count(&self) -> PerLane {
        let mut count = PerLane::default();
        for lane in Lane::ALL {
            let (called, delivered) = (
                &self.called[*lane as usize],
                &self.delivered[*lane as usize],
            );
            count.set(*lane, called.len() + delivered.len());
        }
        count
    }

    /// Of those, the ones with a delivery.
    pub(super) fn deliveries(&self) -> usize {
        self.delivered.iter().map(VecDeque::len).sum()
    }

    /// How long the oldest delivery has waited.
    pub(super) fn longest(&self) -> Duration {
        let first = self.delivered.iter().filter_map(VecDeque::front);
        let waited = first.map(|(_, delivery)| delivery.since.elapsed());
        waited.max().unwrap_or(Duration::ZERO)
    }

    /// Takes out the deliveries that have waited for so long.
    pub(super) fn take_older(&mut self, than: Duration) -> Vec<DeliveryRef> {
        let mut late = Vec::new();
        for lane in &mut self.delivered {
            let count = lane.partition_point(|(_, delivery)| delivery.since.elapsed() >= than);
            late.extend(lane.drain(..count).map(|(_, delivery)| delivery));
        }
        late
    }

    /// Takes out what was called up.
    pub(super) fn take_called(&mut self) -> Vec<Uuid> {
        let all = self.called.iter_mut().flat_map(|lane| lane.drain(..));
        all.map(|envelope| envelope.id.0).collect()
    }
}
