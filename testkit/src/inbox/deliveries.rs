//! How often each task's mail arrived: a fault run counts its repeats and losses here.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Message, store::Store};

/// One value of a header and the mails that carried it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    pub value: String,
    /// Mails with this value; more than one is a repeat.
    pub count: u64,
    pub first: DateTime<Utc>,
    pub last: DateTime<Utc>,
}

/// All values of one header.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Ordered by first arrival.
    pub(super) deliveries: Vec<Delivery>,
    pub(super) messages: u64,
    /// Mails without the header.
    pub(super) without: u64,
}

impl Tally {
    pub(super) fn of(store: &Store, header: &str) -> Self {
        let mut tally = Self::default();
        let mut places = HashMap::new();
        for message in store.messages() {
            tally.messages += 1;
            match message.header(header) {
                Some(value) => tally.count(&mut places, value, &message),
                None => tally.without += 1,
            }
        }
        tally
    }

    /// Values that arrived more than once.
    pub(super) fn repeated(&self) -> usize {
        self.deliveries
            .iter()
            .filter(|delivery| delivery.count > 1)
            .count()
    }

    fn count(&mut self, places: &mut HashMap<String, usize>, value: String, message: &Message) {
        if let Some(place) = places.get(&value) {
            let delivery = &mut self.deliveries[*place];
            delivery.count += 1;
            delivery.last = message.received_at;
            return;
        }
        places.insert(value.clone(), self.deliveries.len());
        let at = message.received_at;
        self.deliveries.push(Delivery {
            value,
            count: 1,
            first: at,
            last: at,
        });
    }
}
