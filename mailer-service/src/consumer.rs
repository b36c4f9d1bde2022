//! Consuming: one connection, one channel and consumer for each lane of each queue. At the first sign of
//! trouble all of it is dropped and built anew; a consumer that the server cancels ends its stream while
//! the connection stays up, so the end of a stream is trouble too.

use crate::{
    dispatcher::Event,
    settle::{Acker, DeliveryRef, Link},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use lapin::{
    Connection, Consumer,
    message::Delivery,
    options::{BasicCancelOptions, BasicQosOptions},
};
use shared::{
    broker::{self, BrokerError, LinkState, Pauses},
    config::Config,
    envelope::Envelope,
    task::{Lane, Queue},
    topology,
};
use std::{
    collections::HashSet,
    sync::{Arc, mpsc::Sender},
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What was delivered before a consumer was cancelled arrives well within this.
const LAST_DELIVERIES: Duration = Duration::from_secs(5);

pub struct Consuming {
    pub config: Config,
    /// Where each queue's deliveries go.
    pub queues: Vec<(Queue, Sender<Event>)>,
    pub acker: Acker,
    pub link: watch::Sender<LinkState>,
    /// Queues that are not consumed now.
    pub on_hold: watch::Receiver<HashSet<Queue>>,
    /// Ends consuming; what was delivered can still be acknowledged.
    pub stop: CancellationToken,
    /// Closes the connection.
    pub close: CancellationToken,
}

impl Consuming {
    pub async fn run(self) {
        let mut pauses = Pauses::default();
        let mut said = false;
        while !self.stop.is_cancelled() {
            let error = match self.session(&mut pauses, &mut said).await {
                Ok(()) => return,
                Err(error) => error,
            };
            let was_up = self.link.send_replace(LinkState::Down) != LinkState::Down;
            if was_up || !said {
                said = true;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "no connection for consuming; trying again"
                );
            }
            tokio::select! {
                () = tokio::time::sleep(pauses.longer()) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// One connection, from connect to trouble; `Ok` when stopped.
    async fn session(&self, pauses: &mut Pauses, said: &mut bool) -> Result<(), BrokerError> {
        let connecting = broker::connect(&self.config.broker, "warren mailer consumer");
        let Some(connection) = self.stop.run_until_cancelled(connecting).await else {
            return Ok(());
        };
        let connection = connection?;
        let lanes = FuturesUnordered::new();
        for (queue, events) in &self.queues {
            for lane in Lane::ALL {
                let link = self.open(&connection, *queue).await?;
                let on_hold = self.on_hold.clone();
                lanes.push(self.lane(*queue, *lane, link, on_hold, events));
            }
        }
        self.link.send_replace(LinkState::Up);
        *pauses = Pauses::default();
        *said = false;
        tracing::info!(
            "connected to the broker, consuming from {} queues",
            lanes.len()
        );
        let outcome = tokio::select! {
            error = broker::watch(&connection, &self.link) => Err(error),
            outcome = first_trouble(lanes) => outcome,
        };
        if outcome.is_ok() {
            // Tasks still run and their acknowledgements need the channels.
            self.close.cancelled().await;
            broker::close(&connection).await;
        }
        outcome
    }

    /// A channel of its own for a lane.
    async fn open(&self, connection: &Connection, queue: Queue) -> Result<Arc<Link>, BrokerError> {
        let channel = connection.create_channel().await?;
        channel
            .basic_qos(
                self.config.worker.queues.get(queue).prefetch(),
                BasicQosOptions::default(),
            )
            .await?;
        Ok(Link::new(channel))
    }

    /// Consumes a lane whenever its queue is not on hold, until trouble or stop.
    async fn lane(
        &self,
        queue: Queue,
        lane: Lane,
        link: Arc<Link>,
        mut on_hold: watch::Receiver<HashSet<Queue>>,
        events: &Sender<Event>,
    ) -> Result<(), BrokerError> {
        loop {
            let is_free = async {
                on_hold
                    .wait_for(|held| !held.contains(&queue))
                    .await
                    .is_ok()
            };
            tokio::select! {
                is_free = is_free => if !is_free {
                    return Err(ended());
                },
                () = self.stop.cancelled() => return Ok(()),
            }
            let consumer = self.consume(&link, queue, lane).await?;
            if self
                .forward(consumer, &link, queue, &mut on_hold, events)
                .await?
            {
                return Ok(());
            }
        }
    }

    async fn consume(
        &self,
        link: &Link,
        queue: Queue,
        lane: Lane,
    ) -> Result<Consumer, BrokerError> {
        let name = topology::task_queue(queue, lane);
        let tag = format!("warren-{}-{queue}-{lane}", std::process::id());
        Ok(link.consume(name, tag).await?)
    }

    /// Hands deliveries to the dispatcher until trouble, stop (true) or a hold (false).
    async fn forward(
        &self,
        mut consumer: Consumer,
        link: &Arc<Link>,
        queue: Queue,
        on_hold: &mut watch::Receiver<HashSet<Queue>>,
        events: &Sender<Event>,
    ) -> Result<bool, BrokerError> {
        loop {
            let delivery = tokio::select! {
                delivery = consumer.next() => delivery,
                () = self.stop.cancelled() => {
                    link.cancel(&consumer.tag(), BasicCancelOptions::default()).await?;
                    return Ok(true);
                }
                is_held = async { on_hold.wait_for(|held| held.contains(&queue)).await.is_ok() } => {
                    if !is_held {
                        return Err(ended());
                    }
                    link.cancel(&consumer.tag(), BasicCancelOptions::default()).await?;
                    // The dispatcher sends back what comes now.
                    while let Ok(Some(Ok(delivery))) = tokio::time::timeout(LAST_DELIVERIES, consumer.next()).await {
                        self.hand_over(&delivery, link, events)?;
                    }
                    return Ok(false);
                }
            };
            match delivery {
                Some(Ok(delivery)) => self.hand_over(&delivery, link, events)?,
                Some(Err(error)) => return Err(error.into()),
                None => return Err(BrokerError::Ended("the broker cancelled a consumer")),
            }
        }
    }

    fn hand_over(
        &self,
        delivery: &Delivery,
        link: &Arc<Link>,
        events: &Sender<Event>,
    ) -> Result<(), BrokerError> {
        let reference = DeliveryRef {
            link: Arc::clone(link),
            tag: delivery.delivery_tag,
            since: Instant::now(),
        };
        match Envelope::from_json(&delivery.data) {
            Ok(envelope) => events
                .send(Event::Delivered(envelope, reference))
                .map_err(|_| BrokerError::Ended("the dispatcher stopped")),
            Err(error) => {
                metrics::counter!("warren_messages_parked_total").increment(1);
                tracing::error!(error = &error as &dyn std::error::Error, queue.key = %delivery.routing_key, "a message was parked in the dead-letter queue");
                self.acker.park(reference);
                Ok(())
            }
        }
    }
}

const fn ended() -> BrokerError {
    BrokerError::Ended("the control thread stopped")
}

/// The first error; `Ok` when every lane was stopped.
async fn first_trouble(
    mut lanes: FuturesUnordered<impl Future<Output = Result<(), BrokerError>>>,
) -> Result<(), BrokerError> {
    while let Some(ended) = lanes.next().await {
        ended?;
    }
    Ok(())
}
