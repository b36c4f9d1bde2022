//! The one place that publishes: persistent, confirmed, mandatory but for events, each outcome matched.
//!
//! One task owns the channel (tags are assigned at first poll, so a second publisher on the channel would
//! get other messages' confirms); confirms are awaited beside it, at most `publish_window` of them. What
//! can't be published now stays in the outbox, where the relay finds it: nothing here is ever the only copy.

use crate::{
    broker::{self, BrokerError, LinkState, Pauses},
    config::Broker,
    outbox::{Fate, OutboxRow},
};
use futures_util::future::join_all;
use lapin::{
    BasicProperties, Channel, Confirmation, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{
        OwnedSemaphorePermit, Semaphore, mpsc,
        oneshot::{self, error::TryRecvError},
        watch,
    },
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use uuid::Uuid;

/// Batches that may wait for the channel; what does not fit is the relay's.
const WAITING_BATCHES: usize = 256;

struct Batch {
    rows: Vec<OutboxRow>,
    /// Told when the fate of every row is known.
    settled: Option<oneshot::Sender<()>>,
}

/// A handle to the publishing task.
#[derive(Debug, Clone)]
pub struct Publisher {
    batches: mpsc::Sender<Batch>,
    link: watch::Receiver<LinkState>,
}

impl Publisher {
    /// Starts the publishing task. `fates` hears of every confirm; `stop` ends it after what is waiting
    /// has been published.
    pub fn spawn(
        config: &Broker,
        name: String,
        fates: std::sync::mpsc::Sender<Fate>,
        stop: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let (batches, waiting) = mpsc::channel(WAITING_BATCHES);
        let (link_sender, link) = watch::channel(LinkState::Down);
        let task = Task {
            config: config.clone(),
            name,
            fates,
            waiting,
            link: link_sender,
            stop,
        };
        (
            Self { batches, link },
            crate::threads::spawn_task("publisher", task.run()),
        )
    }

    /// Publishes committed rows without waiting. What can't go now stays in the outbox.
    pub fn offer(&self, rows: Vec<OutboxRow>) {
        if rows.is_empty() || *self.link.borrow() == LinkState::Down {
            return;
        }
        let count = rows.len() as u64;
        if self
            .batches
            .try_send(Batch {
                rows,
                settled: None,
            })
            .is_err()
        {
            metrics::counter!("warren_publish_deferred_total").increment(count);
        }
    }

    /// Publishes rows and waits until the fate of each is known, the connection is lost, or `stop`.
    pub fn publish_blocking(&self, rows: Vec<OutboxRow>, stop: &CancellationToken) {
        let (settled, mut done) = oneshot::channel();
        let batch = Batch {
            rows,
            settled: Some(settled),
        };
        // Full: the publisher has more than enough to do, and these rows stay in the outbox.
        if self.batches.try_send(batch).is_err() {
            return;
        }
        // A blocked broker can keep us waiting for hours. Closed means done, or dropped with a connection.
        while !stop.is_cancelled() && matches!(done.try_recv(), Err(TryRecvError::Empty)) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The state of the connection, to read or to wait on.
    pub fn link(&self) -> watch::Receiver<LinkState> {
        self.link.clone()
    }
}

struct Task {
    config: Broker,
    name: String,
    fates: std::sync::mpsc::Sender<Fate>,
    waiting: mpsc::Receiver<Batch>,
    link: watch::Sender<LinkState>,
    stop: CancellationToken,
}

impl Task {
    async fn run(mut self) {
        let mut pauses = Pauses::default();
        let mut said = false;
        loop {
            match self.session(&mut pauses, &mut said).await {
                Ok(()) => return,
                Err(error) => {
                    let was_up = self.link.send_replace(LinkState::Down) != LinkState::Down;
                    if was_up || !said {
                        said = true;
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "no connection for publishing; tasks are accepted and wait in the outbox"
                        );
                    }
                }
            }
            if self.rest(pauses.longer()).await {
                return;
            }
        }
    }

    /// Waits before the next attempt, leaving what is offered meanwhile to the relay. True: stop.
    async fn rest(&mut self, pause: Duration) -> bool {
        let end = tokio::time::sleep(pause);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return self.stop.is_cancelled(),
                () = self.stop.cancelled() => return true,
                batch = self.waiting.recv() => if batch.is_none() { return true },
            }
        }
    }

    /// One connection, from connect to trouble; `Ok` when stopped.
    async fn session(&mut self, pauses: &mut Pauses, said: &mut bool) -> Result<(), BrokerError> {
        let stop = self.stop.clone();
        let connection = tokio::select! {
            connection = broker::connect(&self.config, &self.name) => connection?,
            () = stop.cancelled() => return Ok(()),
        };
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let (confirms, unconfirmed) = mpsc::unbounded_channel();
        let confirming = Confirming {
            unconfirmed,
            fates: self.fates.clone(),
            timeout: Duration::from_secs(self.config.confirm_timeout_s),
        };
        // Ends with this session, however that ends.
        let mut confirming = AbortOnDropHandle::new(tokio::spawn(confirming.run()));
        self.link.send_replace(LinkState::Up);
        *pauses = Pauses::default();
        *said = false;
        tracing::info!("connected to the broker for publishing");

        let window = Arc::new(Semaphore::new(self.config.publish_window));
        let chunk = self.config.publish_window.div_ceil(2);
        let lost = broker::watch(&connection, &self.link);
        tokio::pin!(lost);
        let outcome = loop {
            let batch = tokio::select! {
                biased;
                error = &mut lost => break Err(error),
                ended = &mut confirming => break Err(confirms_ended(ended)),
                batch = self.waiting.recv() => batch,
                // Only when nothing is waiting: what was accepted before the stop is published.
                () = stop.cancelled() => None,
            };
            let Some(mut batch) = batch else { break Ok(()) };
            let settled = batch.settled.take().map(Arc::new);
            let publishing = async {
                for rows in batch.rows.chunks(chunk) {
                    publish(&channel, rows, &window, settled.as_ref(), &confirms).await?;
                }
                Ok::<(), BrokerError>(())
            };
            // A frozen or blocked broker takes no frame: the loss of the connection must end this wait too.
            let published = tokio::select! {
                biased;
                published = publishing => published,
                error = &mut lost => Err(error),
                ended = &mut confirming => Err(confirms_ended(ended)),
            };
            if let Err(error) = published {
                break Err(error);
            }
        };
        drop(confirms);
        if outcome.is_ok() {
            // Give what is under way a moment to be confirmed; the outbox keeps the rest.
            let _late = tokio::time::timeout(Duration::from_secs(2), &mut confirming).await;
            broker::close(&connection).await;
        }
        outcome
    }
}

fn confirms_ended(ended: Result<BrokerError, tokio::task::JoinError>) -> BrokerError {
    ended.unwrap_or(BrokerError::Ended("the confirm task panicked"))
}

/// A published message that waits for its confirm.
struct Unconfirmed {
    id: Uuid,
    confirm: PublisherConfirm,
    _place: OwnedSemaphorePermit,
    /// Dropped with the last message of its batch, which tells the one who waits.
    _settled: Option<Arc<oneshot::Sender<()>>>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that publishes"
)]
async fn publish(
    channel: &Channel,
    rows: &[OutboxRow],
    window: &Arc<Semaphore>,
    settled: Option<&Arc<oneshot::Sender<()>>>,
    confirms: &mpsc::UnboundedSender<Unconfirmed>,
) -> Result<(), BrokerError> {
    let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    let mut places = Arc::clone(window)
        .acquire_many_owned(count)
        .await
        .map_err(|_| BrokerError::Ended("the publishing window closed"))?;
    // An event that nobody listens for goes nowhere; a task must.
    let options = |row: &OutboxRow| BasicPublishOptions {
        mandatory: !row.is_event(),
        immediate: false,
    };
    let bodies: Vec<_> = rows.iter().map(OutboxRow::body).collect();
    let writes = rows.iter().zip(&bodies).map(|(row, body)| {
        channel.basic_publish(
            row.exchange.as_str().into(),
            row.routing_key.as_str().into(),
            options(row),
            body,
            properties(row),
        )
    });
    for (row, confirm) in rows.iter().zip(join_all(writes).await) {
        let Some(place) = places.split(1) else { break };
        let unconfirmed = Unconfirmed {
            id: row.id,
            confirm: confirm?,
            _place: place,
            _settled: settled.cloned(),
        };
        if confirms.send(unconfirmed).is_err() {
            return Err(BrokerError::Ended("the confirm task ended"));
        }
    }
    Ok(())
}

fn properties(row: &OutboxRow) -> BasicProperties {
    let mut headers = FieldTable::default();
    let id = if row.is_event() {
        row.id
    } else {
        headers.insert("attempt".into(), AMQPValue::LongInt(row.attempt));
        row.task_id
    };
    if let Some(traceparent) = &row.traceparent {
        headers.insert(
            "traceparent".into(),
            AMQPValue::LongString(traceparent.as_str().into()),
        );
    }
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/json".into())
        .with_app_id("warren".into())
        .with_message_id(id.to_string().into())
        // The outbox row: what a return is matched by.
        .with_correlation_id(row.id.to_string().into())
        .with_type(row.kind.as_str().into())
        .with_timestamp(u64::try_from(chrono::Utc::now().timestamp()).unwrap_or_default())
        .with_headers(headers)
}

/// Awaits confirms in the order of publishing.
struct Confirming {
    unconfirmed: mpsc::UnboundedReceiver<Unconfirmed>,
    fates: std::sync::mpsc::Sender<Fate>,
    timeout: Duration,
}

impl Confirming {
    /// Ends with the reason why the connection must be given up.
    async fn run(mut self) -> BrokerError {
        while let Some(message) = self.unconfirmed.recv().await {
            let (fate, problem) = match tokio::time::timeout(self.timeout, message.confirm).await {
                Ok(Ok(Confirmation::Ack(None))) => (Some(Fate::Confirmed(message.id)), None),
                // An unroutable message is returned and then acked, and lapin may hang the return on
                // another message's confirm: the row is named by the returned message itself.
                Ok(Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)))) => {
                    let id = returned
                        .delivery
                        .properties
                        .correlation_id()
                        .as_ref()
                        .and_then(|id| Uuid::parse_str(id.as_str()).ok())
                        .unwrap_or(message.id);
                    metrics::counter!("warren_publish_returned_total").increment(1);
                    tracing::error!(outbox.id = %id, broker.reply = %returned.reply_text, "a message found no queue and stays in the outbox");
                    (Some(Fate::Returned(id)), Some(BrokerError::Unroutable))
                }
                Ok(Ok(Confirmation::Nack(None))) => {
                    metrics::counter!("warren_publish_nacked_total").increment(1);
                    tracing::error!(outbox.id = %message.id, "the broker refused a message; it stays in the outbox");
                    (None, None)
                }
                Ok(Ok(Confirmation::NotRequested)) => (
                    None,
                    Some(BrokerError::Ended("the channel does not confirm")),
                ),
                Ok(Err(error)) => (None, Some(BrokerError::Amqp(error))),
                Err(_) => (None, Some(BrokerError::Timeout)),
            };
            if let Some(fate) = fate {
                if matches!(fate, Fate::Confirmed(_)) {
                    metrics::counter!("warren_published_total").increment(1);
                }
                if self.fates.send(fate).is_err() {
                    return BrokerError::Ended("the outbox sweeper ended");
                }
            }
            if let Some(problem) = problem {
                return problem;
            }
        }
        BrokerError::Ended("the publisher ended")
    }
}
