//! The broker's topology as a value: what is declared at start, by every process, the same each time.
//!
//! Arguments of a live queue can't change, so whatever may change later stands in a name
//! (`warren.retry.60s`) or in an operator policy. Queues are quorum queues; at-least-once dead-lettering
//! needs both `x-dead-letter-strategy` and `x-overflow`, or RabbitMQ silently falls back to at-most-once.

use crate::{
    backoff::TIERS,
    task::{Lane, Queue},
};
use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde::Serialize;

/// Direct exchange for tasks that are ready to run; the routing key is `<queue>.<lane>`.
pub const TASKS: &str = "warren.tasks";
/// Fanout exchange and queue for what failed for good or could not be read.
pub const DEAD: &str = "warren.dead";
/// Topic exchange for `task.<kind>.<state>` and users' own events.
pub const EVENTS: &str = "warren.events";
/// Fanout exchange for commands to running processes.
pub const CONTROL: &str = "warren.control";

/// A message that was delivered this often without being settled is poison.
const DELIVERY_LIMIT: i64 = 100;

/// `mail.high`, …: the routing key, kept through every delay tier.
pub fn routing_key(queue: Queue, lane: Lane) -> String {
    format!("{queue}.{lane}")
}

/// The RabbitMQ queue of that queue and lane.
pub fn task_queue(queue: Queue, lane: Lane) -> String {
    format!("{TASKS}.{queue}.{lane}")
}

/// The exchange and the queue of a delay tier.
pub fn retry_tier(seconds: u16) -> String {
    format!("warren.retry.{seconds}s")
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exchange {
    pub name: String,
    pub kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeclaredQueue {
    pub name: String,
    pub arguments: Vec<(&'static str, Argument)>,
    /// Exchange and routing key.
    pub bindings: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Argument {
    Text(String),
    Number(i64),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Topology {
    pub exchanges: Vec<Exchange>,
    pub queues: Vec<DeclaredQueue>,
}

impl Topology {
    /// Everything that Warren needs in a vhost.
    pub fn warren() -> Self {
        let exchange = |name: &str, kind| Exchange {
            name: name.to_owned(),
            kind,
        };
        let mut exchanges = vec![
            exchange(TASKS, "direct"),
            exchange(DEAD, "fanout"),
            exchange(EVENTS, "topic"),
            exchange(CONTROL, "fanout"),
        ];
        let mut queues = Vec::new();
        for queue in Queue::ALL {
            for lane in Lane::ALL {
                queues.push(DeclaredQueue {
                    name: task_queue(*queue, *lane),
                    arguments: with(
                        quorum(DEAD),
                        ("x-delivery-limit", Argument::Number(DELIVERY_LIMIT)),
                    ),
                    bindings: vec![(TASKS.to_owned(), routing_key(*queue, *lane))],
                });
            }
        }
        for seconds in TIERS {
            let name = retry_tier(seconds);
            exchanges.push(exchange(&name, "fanout"));
            queues.push(DeclaredQueue {
                // No x-dead-letter-routing-key: the original key must find its queue again.
                arguments: with(
                    quorum(TASKS),
                    ("x-message-ttl", Argument::Number(i64::from(seconds) * 1000)),
                ),
                bindings: vec![(name.clone(), String::new())],
                name,
            });
        }
        queues.push(DeclaredQueue {
            name: DEAD.to_owned(),
            // People look at messages and put them back; RabbitMQ 4 drops one after 20 such looks.
            arguments: vec![
                ("x-queue-type", Argument::Text("quorum".to_owned())),
                ("x-delivery-limit", Argument::Number(1_000_000)),
            ],
            bindings: vec![(DEAD.to_owned(), String::new())],
        });
        Self { exchanges, queues }
    }

    /// Declares all of it; harmless when it is there already.
    pub async fn declare(&self, channel: &Channel) -> Result<(), lapin::Error> {
        for exchange in &self.exchanges {
            exchange.declare(channel, Declare::Make).await?;
        }
        for queue in &self.queues {
            queue.declare(channel, Declare::Make).await?;
            queue.bind(channel).await?;
        }
        Ok(())
    }
}

/// What a declaration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declare {
    /// It is there afterwards; an error where it is there with other arguments.
    Make,
    /// An error where it is missing; its arguments are not looked at.
    Look,
}

impl Exchange {
    /// An error closes the channel.
    pub async fn declare(&self, channel: &Channel, what: Declare) -> Result<(), lapin::Error> {
        let kind = match self.kind {
            "direct" => ExchangeKind::Direct,
            "fanout" => ExchangeKind::Fanout,
            "topic" => ExchangeKind::Topic,
            other => ExchangeKind::Custom(other.to_owned()),
        };
        let options = ExchangeDeclareOptions {
            durable: true,
            passive: what == Declare::Look,
            ..Default::default()
        };
        let name = self.name.as_str().into();
        channel
            .exchange_declare(name, kind, options, FieldTable::default())
            .await
    }
}

impl DeclaredQueue {
    /// Answers with its counts of ready messages and consumers. An error closes the channel.
    pub async fn declare(
        &self,
        channel: &Channel,
        what: Declare,
    ) -> Result<lapin::Queue, lapin::Error> {
        let mut arguments = FieldTable::default();
        for (key, value) in &self.arguments {
            let value = match value {
                Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
                Argument::Number(number) => AMQPValue::LongLongInt(*number),
            };
            arguments.insert((*key).into(), value);
        }
        let options = QueueDeclareOptions {
            durable: true,
            passive: what == Declare::Look,
            ..Default::default()
        };
        channel
            .queue_declare(self.name.as_str().into(), options, arguments)
            .await
    }

    pub async fn bind(&self, channel: &Channel) -> Result<(), lapin::Error> {
        for (exchange, key) in &self.bindings {
            channel
                .queue_bind(
                    self.name.as_str().into(),
                    exchange.as_str().into(),
                    key.as_str().into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await?;
        }
        Ok(())
    }
}

/// A quorum queue that hands on what it drops, at least once.
fn quorum(dead_letter_exchange: &str) -> Vec<(&'static str, Argument)> {
    let text = |value: &str| Argument::Text(value.to_owned());
    vec![
        ("x-queue-type", text("quorum")),
        ("x-dead-letter-exchange", text(dead_letter_exchange)),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ]
}

fn with(
    mut arguments: Vec<(&'static str, Argument)>,
    further: (&'static str, Argument),
) -> Vec<(&'static str, Argument)> {
    arguments.push(further);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A live queue refuses other arguments than it was made with: whoever changes this snapshot must
    /// change the queue's name too.
    #[test]
    fn the_topology_is_frozen() {
        insta::assert_json_snapshot!(Topology::warren());
    }
}
