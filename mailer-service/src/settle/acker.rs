//! Sends the acknowledgements. One task owns every channel's book of tags.

use super::acks::{Ack, Acks};
use lapin::{
    Channel, Consumer,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicRejectOptions},
    types::{FieldTable, ShortString},
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};

/// One consuming channel, from its opening to its loss.
#[derive(Debug)]
pub struct Link {
    channel: Channel,
    acks: Mutex<Acks>,
    lost: AtomicBool,
}

impl Link {
    pub fn new(channel: Channel) -> Arc<Self> {
        Arc::new(Self {
            channel,
            acks: Mutex::default(),
            lost: AtomicBool::new(false),
        })
    }

    /// Starts a consumer on this channel.
    pub async fn consume(&self, queue: String, tag: String) -> lapin::Result<Consumer> {
        let options = BasicConsumeOptions::default();
        self.channel
            .basic_consume(queue.into(), tag.into(), options, FieldTable::default())
            .await
    }

    /// Ends a consumer of this channel; what it delivered can still be acknowledged.
    pub async fn cancel(
        &self,
        consumer: &ShortString,
        options: BasicCancelOptions,
    ) -> lapin::Result<()> {
        self.channel.basic_cancel(consumer.clone(), options).await
    }
}

/// A delivery that waits for its acknowledgement.
#[derive(Debug, Clone)]
pub struct DeliveryRef {
    pub link: Arc<Link>,
    pub tag: u64,
    /// When it came.
    pub since: Instant,
}

enum Order {
    Settled(Vec<DeliveryRef>),
    /// A message that is no envelope: dead-lettered.
    Park(DeliveryRef),
    /// Put back for others.
    Requeue(Vec<DeliveryRef>),
    /// Send everything now, then say so.
    Flush(oneshot::Sender<()>),
}

/// A handle to the acknowledging task.
#[derive(Debug, Clone)]
pub struct Acker(mpsc::UnboundedSender<Order>);

const TICK: Duration = Duration::from_millis(50);

impl Acker {
    /// Starts the task; it ends when every handle is gone.
    pub fn spawn() -> Self {
        let (sender, orders) = mpsc::unbounded_channel();
        shared::threads::spawn_task("acker", run(orders));
        Self(sender)
    }

    pub fn settled(&self, deliveries: Vec<DeliveryRef>) {
        if !deliveries.is_empty() {
            // The task outlives every handle; without it the messages would come again, which is harmless.
            let _ended = self.0.send(Order::Settled(deliveries));
        }
    }

    /// Returns when all that was settled has been sent.
    pub async fn flush(&self) {
        let (flushed, done) = oneshot::channel();
        if self.0.send(Order::Flush(flushed)).is_ok() {
            // The task ends after its handles, so it can't drop this.
            let _ended = done.await;
        }
    }

    /// Puts messages that were not begun back into their queue.
    pub fn requeue(&self, deliveries: Vec<DeliveryRef>) {
        if !deliveries.is_empty() {
            let _ended = self.0.send(Order::Requeue(deliveries));
        }
    }

    pub fn park(&self, delivery: DeliveryRef) {
        let _ended = self.0.send(Order::Park(delivery));
    }
}

async fn run(mut orders: mpsc::UnboundedReceiver<Order>) {
    // Channels with something to send, now or in a moment.
    let mut active: Vec<Arc<Link>> = Vec::new();
    loop {
        let order = if active.is_empty() {
            orders.recv().await.map(Some)
        } else {
            match tokio::time::timeout(TICK, orders.recv()).await {
                Ok(order) => order.map(Some),
                Err(_) => Some(None),
            }
        };
        let Some(order) = order else { break };
        match order {
            Some(Order::Settled(deliveries)) => {
                let now = Instant::now();
                for DeliveryRef { link, tag, .. } in deliveries {
                    book(&link).settled(tag, now);
                    if !active.iter().any(|known| Arc::ptr_eq(known, &link)) {
                        active.push(link);
                    }
                }
            }
            Some(Order::Park(DeliveryRef { link, tag, .. })) => {
                let frame = book(&link).reject(tag);
                send(&link, frame).await;
            }
            Some(Order::Requeue(deliveries)) => {
                for DeliveryRef { link, tag, .. } in deliveries {
                    let frame = book(&link).requeue(tag);
                    send(&link, frame).await;
                }
            }
            Some(Order::Flush(flushed)) => {
                // Nothing waits for its neighbours any more.
                flush(&mut active, Instant::now() + Duration::from_secs(1)).await;
                let _gone = flushed.send(());
            }
            None => {}
        }
        flush(&mut active, Instant::now()).await;
    }
}

fn book(link: &Link) -> std::sync::MutexGuard<'_, Acks> {
    link.acks.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn flush(active: &mut Vec<Arc<Link>>, now: Instant) {
    for link in active.iter() {
        let frames = book(link).flush(now);
        for frame in frames {
            send(link, frame).await;
        }
    }
    active.retain(|link| !link.lost.load(Ordering::Relaxed) && book(link).is_waiting());
}

async fn send(link: &Link, frame: Ack) {
    if link.lost.load(Ordering::Relaxed) {
        return;
    }
    let channel = &link.channel;
    let sent = match frame {
        Ack::UpTo(tag) => {
            channel
                .basic_ack(tag, BasicAckOptions { multiple: true })
                .await
        }
        Ack::One(tag) => {
            channel
                .basic_ack(tag, BasicAckOptions { multiple: false })
                .await
        }
        Ack::Reject(tag) => {
            channel
                .basic_reject(tag, BasicRejectOptions { requeue: false })
                .await
        }
        Ack::Requeue(tag) => {
            channel
                .basic_reject(tag, BasicRejectOptions { requeue: true })
                .await
        }
    };
    // On a lost channel the messages come again, find their tasks settled and are dropped.
    if let Err(error) = sent {
        link.lost.store(true, Ordering::Relaxed);
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a channel was lost before its acknowledgements"
        );
    }
}
