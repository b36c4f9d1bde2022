//! Settling: outcomes are written in batches, on a thread of their own, and only what is written is
//! acknowledged. This module is the only place that acknowledges a delivery.
//!
//! While the database is away, outcomes wait here and their messages stay unacknowledged, so a mail that
//! was sent is not sent again for it.

mod acker;
pub mod acks;
mod parked;
mod steps;

pub use acker::{Acker, DeliveryRef, Link};
pub(crate) use steps::longest_park;

use crate::{
    queries::settle::Settle,
    registry::Registry,
    task::{Claimed, Verdict},
};
use shared::{config::Config, db::Session, outbox::OutboxRow, publisher::Publisher, threads};
use std::{
    collections::HashSet,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const LARGEST_BATCH: usize = 1024;

/// An attempt that has ended.
#[derive(Debug)]
pub struct Ended {
    pub task: Claimed,
    pub verdict: Verdict,
}

/// Starts the settling thread. It ends when every sender is gone and all is written, or at `give_up`.
pub fn spawn(
    config: &Config,
    registry: Registry,
    publisher: Publisher,
    acker: Acker,
    give_up: CancellationToken,
) -> std::io::Result<(Sender<Ended>, JoinHandle<()>)> {
    let (sender, ended) = channel();
    let settler = Settler {
        session: Session::new(&config.database).by_key(),
        wait: Duration::from_millis(config.worker.settle_wait_ms),
        patience: Duration::from_millis(config.outbox.relay_after_ms.into()),
        park: Duration::from_secs(config.worker.park_s.into()),
        registry,
        publisher,
        acker,
        give_up,
    };
    let thread = threads::spawn("settle", move || settler.run(&ended))?;
    Ok((sender, thread))
}

struct Settler {
    session: Session,
    wait: Duration,
    patience: Duration,
    /// How long a task that can't be done here is put aside at first.
    park: Duration,
    registry: Registry,
    publisher: Publisher,
    acker: Acker,
    give_up: CancellationToken,
}

impl Settler {
    fn run(mut self, ended: &Receiver<Ended>) {
        while let Ok(first) = ended.recv() {
            let batch = self.gather(first, ended);
            self.settle(batch);
        }
    }

    /// What is waiting, and for a moment what is about to come, if anything else runs at all.
    fn gather(&self, first: Ended, ended: &Receiver<Ended>) -> Vec<Ended> {
        let mut batch = vec![first];
        let until = Instant::now() + self.wait;
        while batch.len() < LARGEST_BATCH {
            let next = if self.registry.len() > batch.len() {
                ended.recv_timeout(until.saturating_duration_since(Instant::now()))
            } else {
                ended.try_recv().map_err(|_| RecvTimeoutError::Timeout)
            };
            match next {
                Ok(next) => batch.push(next),
                Err(_) => break,
            }
        }
        batch
    }

    fn settle(&mut self, batch: Vec<Ended>) {
        let begin = Instant::now();
        let mut statement = Settle::default();
        let mut messages: Vec<OutboxRow> = Vec::new();
        let mut rng = rand::rng();
        let now = chrono::Utc::now();
        let steps: Vec<_> = batch
            .iter()
            .map(|ended| steps::next(ended, self.park, &mut rng))
            .collect();
        for (ended, step) in batch.iter().zip(&steps) {
            let message = step.message(&ended.task, now, self.patience);
            step.push(&ended.task, &mut statement);
            if let Some(message) = message {
                statement.push_message(&message);
                messages.push(message);
            }
        }
        let settled = match self
            .session
            .run_until(&self.give_up, "settling", |connection| {
                statement.run(connection)
            }) {
            Some(Ok(settled)) => settled,
            Some(Err(error)) => return self.split(batch, &error),
            // The process ends: nothing is acknowledged, and the reaper finds these tasks.
            None => return,
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "a batch has at most a thousand outcomes"
        )]
        metrics::histogram!("warren_settle_batch_size").record(batch.len() as f64);
        metrics::histogram!("warren_settle_commit_seconds").record(begin.elapsed().as_secs_f64());
        let going_on: HashSet<_> = settled
            .iter()
            .filter(|(_, cancelled)| !**cancelled)
            .map(|((id, _), _)| *id)
            .collect();
        messages.retain(|message| going_on.contains(&message.task_id));
        self.publisher.offer(messages);
        let mut deliveries = Vec::with_capacity(batch.len());
        for (ended, step) in batch.iter().zip(&steps) {
            let key = (ended.task.id, ended.task.attempt);
            if let Some(cancelled) = settled.get(&(key.0.0, key.1)) {
                step.log(&ended.task, *cancelled);
            } else {
                metrics::counter!("warren_tasks_fenced_total").increment(1);
                tracing::warn!(task.id = %key.0, task.attempt = key.1, "an outcome came too late: the task had moved on");
            }
            deliveries.extend(self.registry.end(key));
        }
        self.acker.settled(deliveries);
    }

    /// One outcome whose values PostgreSQL refuses must not hold up the others.
    fn split(&mut self, mut batch: Vec<Ended>, error: &diesel::result::Error) {
        if let [only] = batch.as_mut_slice() {
            tracing::error!(task.id = %only.task.id, error = error as &dyn std::error::Error, "an outcome could not be written");
            if steps::replace_by_failure(only) {
                self.settle(batch);
            }
            return;
        }
        let right = batch.split_off(batch.len() / 2);
        self.settle(batch);
        self.settle(right);
    }
}
