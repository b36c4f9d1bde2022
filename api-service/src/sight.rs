//! What the broker's queues hold, as far as AMQP tells: ready messages and consumers. What consumers hold
//! unacknowledged is not among it.

use lapin::Connection;
use shared::{
    backoff::TIERS,
    broker::is_not_found,
    task::{Lane, Queue},
    topology::{self, Declare, Topology},
};
use std::collections::HashMap;

/// One queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) ready: u32,
    pub(crate) consumers: u32,
}

/// All queues of the topology, at about one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sight {
    queues: HashMap<String, Held>,
    /// Queues that should be there.
    pub(crate) missing: Vec<String>,
}

impl Sight {
    pub(crate) async fn of(connection: &Connection) -> Result<Self, lapin::Error> {
        let mut sight = Self::default();
        let mut channel = connection.create_channel().await?;
        for queue in Topology::warren().queues {
            match queue.declare(&channel, Declare::Look).await {
                Ok(state) => {
                    let held = Held {
                        ready: state.message_count(),
                        consumers: state.consumer_count(),
                    };
                    sight.queues.insert(queue.name, held);
                }
                Err(error) if is_not_found(&error) => {
                    sight.missing.push(queue.name);
                    channel = connection.create_channel().await?;
                }
                Err(error) => return Err(error),
            }
        }
        channel.close(200, "looked".into()).await?;
        Ok(sight)
    }

    /// The queue of a lane; one that is missing holds nothing.
    pub(crate) fn lane(&self, queue: Queue, lane: Lane) -> Held {
        self.held(&topology::task_queue(queue, lane))
    }

    /// Messages that wait in delay tiers.
    pub(crate) fn in_tiers(&self) -> u32 {
        let tiers = TIERS.into_iter().map(topology::retry_tier);
        tiers.map(|tier| self.held(&tier).ready).sum()
    }

    pub(crate) fn dead_letters(&self) -> u32 {
        self.held(topology::DEAD).ready
    }

    #[cfg(test)]
    pub(crate) fn holding(queues: &[(&str, Held)]) -> Self {
        let queues = queues
            .iter()
            .map(|(name, held)| ((*name).to_owned(), *held));
        Self {
            queues: queues.collect(),
            missing: Vec::new(),
        }
    }

    fn held(&self, queue: &str) -> Held {
        self.queues.get(queue).copied().unwrap_or_default()
    }
}
