//! Finds tasks whose message is gone. Two signs are looked for:
//!
//! - *The broker's data is new.* An exchange named after the epoch on record marks the broker's data; when
//!   it is missing, everything published before is gone, and every waiting task is published again.
//! - *A queue is empty while tasks wait for it* for longer than any message should take. That covers a
//!   deleted queue, a purge, a quorum queue that came back dead.
//!
//! A message too many is harmless, since the claim fences it.

use crate::{
    depths::{Answer, Depth, Question},
    marker,
    queries::{epoch, outbox::RequeueLost},
    sight::Sight,
};
use lapin::Connection;
use shared::{
    broker::{self, BrokerError, Pauses},
    config::Config,
    db::{DbError, Session},
    gate::Gate,
    publisher::Publisher,
    task::{Lane, Queue},
    topology,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Publishing a million tasks again takes a while; a frozen broker must not hold us for ever.
const LONGEST_CHECK: Duration = Duration::from_secs(120);
/// A look at all queues takes milliseconds.
const LONGEST_ANSWER: Duration = Duration::from_secs(10);
/// Lost tasks that one statement publishes again; it is repeated until all are.
const REQUEUED_AT_ONCE: usize = 5000;

#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error("the reconciler lost the broker")]
    Broker(#[from] BrokerError),
    #[error("the reconciler lost the broker")]
    Amqp(#[from] lapin::Error),
    #[error("the queue {0} is gone")]
    Missing(String),
    #[error("the reconciler could not use the database")]
    Database(#[from] DbError),
    #[error("the reconciler panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

/// The reconciler's latest look at the queues, and when it was.
pub(crate) type Seen = Option<(Instant, Sight)>;

pub(crate) fn spawn(
    config: &Config,
    publisher: Publisher,
    seen: watch::Sender<Seen>,
    questions: mpsc::Receiver<Question>,
    ready: Gate,
    stop: CancellationToken,
) -> JoinHandle<()> {
    let reconciler = Reconciler {
        config: config.clone(),
        session: Arc::new(Mutex::new(Session::new(&config.database))),
        publisher,
        questions,
        seen,
        empty_since: HashMap::new(),
        looked: None,
    };
    shared::threads::spawn_task("reconciler", async move {
        let open = tokio::task::spawn_blocking(move || ready.wait()).await;
        if matches!(open, Ok(true)) {
            stop.clone()
                .run_until_cancelled_owned(reconciler.run())
                .await;
        }
    })
}

struct Reconciler {
    config: Config,
    /// Used on blocking threads only, one call at a time.
    session: Arc<Mutex<Session>>,
    publisher: Publisher,
    /// What people want to know of the queues meanwhile.
    questions: mpsc::Receiver<Question>,
    seen: watch::Sender<Seen>,
    empty_since: HashMap<(Queue, Lane), Instant>,
    /// When lost messages were last looked for.
    looked: Option<Instant>,
}

impl Reconciler {
    async fn run(mut self) {
        let mut pauses = Pauses::default();
        let mut said = false;
        loop {
            // Ends with an error only; while the broker is away, the publisher says so already.
            if let Err(error) = self.connected(&mut pauses, &mut said).await
                && !said
            {
                said = true;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "lost messages are not looked for until this is over"
                );
            }
            self.empty_since.clear();
            tokio::time::sleep(pauses.longer()).await;
        }
    }

    /// Checks again and again on one connection, until that or the database fails.
    async fn connected(
        &mut self,
        pauses: &mut Pauses,
        said: &mut bool,
    ) -> Result<std::convert::Infallible, ReconcileError> {
        let connection = broker::connect(&self.config.broker, "warren api reconciler").await?;
        // No broker::watch here: the answer "no such exchange" is a channel error, which is an event too.
        loop {
            tokio::time::timeout(LONGEST_CHECK, self.check(&connection))
                .await
                .map_err(|_| BrokerError::Timeout)??;
            *pauses = Pauses::default();
            *said = false;
            self.rest(&connection).await?;
        }
    }

    /// Answers questions until the next check.
    async fn rest(&mut self, connection: &Connection) -> Result<(), ReconcileError> {
        let pause = Duration::from_secs(self.config.rescue.reconcile_s.max(1));
        let next = tokio::time::sleep(pause);
        tokio::pin!(next);
        loop {
            tokio::select! {
                () = &mut next => return Ok(()),
                Some(question) = self.questions.recv() => {
                    let sight = tokio::time::timeout(LONGEST_ANSWER, Sight::of(connection))
                        .await
                        .map_err(|_| BrokerError::Timeout)??;
                    // Who asked may have given up.
                    let _gone = question.send(answer(&sight));
                }
            }
        }
    }

    async fn check(&mut self, connection: &Connection) -> Result<(), ReconcileError> {
        self.check_epoch(connection).await?;
        let sight = Sight::of(connection).await?;
        if let Some(queue) = sight.missing.first() {
            // The next connection declares it.
            return Err(ReconcileError::Missing(queue.clone()));
        }
        let mut empty = Vec::new();
        for queue in Queue::ALL {
            for lane in Lane::ALL {
                if self.is_long_empty(&sight, *queue, *lane) {
                    empty.push(topology::routing_key(*queue, *lane));
                }
            }
        }
        // Nobody may be looking.
        self.seen.send_replace(Some((Instant::now(), sight)));
        if self
            .looked
            .is_none_or(|looked| looked.elapsed() >= self.lost_after())
        {
            self.requeue_lost(&empty).await?;
            self.looked = Some(Instant::now());
        }
        Ok(())
    }

    async fn check_epoch(&self, connection: &Connection) -> Result<(), ReconcileError> {
        let seen = self.database(epoch::current).await?;
        if marker::is_there(connection, seen).await? {
            return Ok(());
        }
        let Some(messages) = self
            .database(move |connection| epoch::begin(connection, seen))
            .await?
        else {
            return Ok(());
        };
        // The mark comes last: a crash before it only means that all is published once more.
        marker::make(connection, seen + 1).await?;
        if messages > 0 {
            metrics::counter!("warren_tasks_requeued_total").increment(messages as u64);
            tracing::warn!(
                broker.epoch = seen + 1,
                "the broker has none of our data: {messages} waiting tasks are published again"
            );
        }
        Ok(())
    }

    fn lost_after(&self) -> Duration {
        Duration::from_secs(self.config.rescue.lost_after_s.max(1).into())
    }

    /// Whether a queue has been seen empty, and never otherwise, for as long as a message may take.
    fn is_long_empty(&mut self, sight: &Sight, queue: Queue, lane: Lane) -> bool {
        if sight.lane(queue, lane).ready > 0 {
            self.empty_since.remove(&(queue, lane));
            return false;
        }
        let since = self
            .empty_since
            .entry((queue, lane))
            .or_insert_with(Instant::now);
        since.elapsed() >= Duration::from_secs(self.config.rescue.lost_after_s.into())
    }

    /// What slow workers hold ready is published again as well, since it can't be told from what is lost;
    /// that fills their queue, which ends it, and the extra messages claim nothing.
    async fn requeue_lost(&self, lanes: &[String]) -> Result<(), ReconcileError> {
        if lanes.is_empty() {
            return Ok(());
        }
        // What this look has published again must not look lost to it, however long it takes.
        let begin = Instant::now();
        let age = || self.lost_after() + begin.elapsed();
        while self.requeue_some(lanes.to_vec(), age()).await? == REQUEUED_AT_ONCE {}
        Ok(())
    }

    /// How many it was.
    async fn requeue_some(
        &self,
        lanes: Vec<String>,
        age: Duration,
    ) -> Result<usize, ReconcileError> {
        let requeue = RequeueLost {
            lanes,
            lost_after_seconds: age.as_secs_f64(),
            limit: i64::try_from(REQUEUED_AT_ONCE).unwrap_or(i64::MAX),
            exchange: topology::TASKS,
            relay_seconds: Duration::from_millis(self.config.outbox.relay_after_ms.into())
                .as_secs_f64(),
        };
        let rows = self
            .database(move |connection| requeue.run(connection))
            .await?;
        let count = rows.len();
        if count > 0 {
            metrics::counter!("warren_tasks_requeued_total").increment(count as u64);
            tracing::warn!(
                "{count} tasks wait for longer than their empty queues explain and are published again"
            );
            self.publisher.offer(rows);
        }
        Ok(count)
    }

    async fn database<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut diesel::PgConnection) -> diesel::QueryResult<T> + Send + 'static,
    ) -> Result<T, ReconcileError> {
        let session = Arc::clone(&self.session);
        let outcome = tokio::task::spawn_blocking(move || {
            session
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .run(work)
        });
        Ok(outcome.await??)
    }
}

/// What people want to know of the task queues.
fn answer(sight: &Sight) -> Answer {
    let mut answer = Answer::new();
    for queue in Queue::ALL {
        for lane in Lane::ALL {
            let held = sight.lane(*queue, *lane);
            let depth = Depth {
                ready: held.ready,
                consumers: held.consumers,
            };
            answer.insert((*queue, *lane), depth);
        }
    }
    answer
}
