//! What RabbitMQ says of its queues, asked for over the reconciler's connection: ready messages and consumers.

use shared::task::{Lane, Queue};
use std::{collections::HashMap, time::Duration};
use tokio::sync::{mpsc, oneshot};

/// A broker that does not answer for so long counts as away.
const PATIENCE: Duration = Duration::from_secs(2);
/// Questions that may wait; more count as unanswered.
const WAITING: usize = 16;

/// One RabbitMQ queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Not delivered to anybody.
    pub ready: u32,
    pub consumers: u32,
}

pub type Answer = HashMap<(Queue, Lane), Depth>;
/// Where an answer goes.
pub type Question = oneshot::Sender<Answer>;

/// Asks; clones share the other end.
#[derive(Debug, Clone)]
pub struct Depths(mpsc::Sender<Question>);

impl Depths {
    /// The asking end and the answering one.
    pub fn channel() -> (Self, mpsc::Receiver<Question>) {
        let (sender, questions) = mpsc::channel(WAITING);
        (Self(sender), questions)
    }

    /// None: RabbitMQ is away.
    pub async fn ask(&self) -> Option<Answer> {
        let (question, answer) = oneshot::channel();
        self.0.try_send(question).ok()?;
        tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
    }
}
