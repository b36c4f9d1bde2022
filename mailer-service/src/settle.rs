//! Settling: outcomes are written in batches, on a thread of their own, and only what is written is
//! acknowledged. This module is the only place that acknowledges a delivery.
//!
//! While the database is away, outcomes wait here and their messages stay unacknowledged, so a mail that
//! was sent is not sent again for it.

mod acker;
pub mod acks;
mod bounces;
mod parked;
mod steps;

pub use acker::{Acker, DeliveryRef, Link};
pub(crate) use steps::longest_park;

use crate::{
    load::tally::{Done, Tally},
    progress::Chunk,
    queries::{
        output::{MakeRoom, StoreLast},
        settle::Settle,
    },
    registry::Registry,
    task::{Claimed, Verdict},
    wake::Signal,
};
use chrono::{DateTime, Utc};
use diesel::{Connection, PgConnection, QueryResult};
use rand::Rng;
use shared::{
    config::Config,
    db::Session,
    outbox::OutboxRow,
    publisher::Publisher,
    suppression::{Filter, rows},
    threads,
};
use std::{
    collections::{HashMap, HashSet},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const LARGEST_BATCH: usize = 1024;

/// An attempt that has ended.
#[derive(Debug)]
pub struct Ended {
    pub task: Claimed,
    pub verdict: Verdict,
    /// How long the attempt ran.
    pub took: Duration,
    /// What it put out and is not known to be on disk.
    pub output: Vec<Chunk>,
}

/// Who hears of outcomes that were written.
#[derive(Debug, Clone)]
pub struct After {
    pub tally: Tally,
    /// Told when the end of an attempt has made room under a limit.
    pub lines: Sender<Signal>,
    /// Learns of addresses that get no more mails.
    pub suppressed: Filter,
}

/// What a batch leads to: the statement that writes it, and the messages that this makes true.
pub struct Plan<'a> {
    steps: Vec<steps::Step<'a>>,
    pub statement: Settle,
    pub messages: Vec<OutboxRow>,
}

impl<'a> Plan<'a> {
    /// `patience` is how long the publisher has before the relay takes over, `park` how long a task is put aside at first.
    pub fn of(
        batch: &'a [Ended],
        now: DateTime<Utc>,
        patience: Duration,
        park: Duration,
        rng: &mut impl Rng,
    ) -> Self {
        let mut plan = Self {
            steps: batch
                .iter()
                .map(|ended| steps::next(ended, park, rng))
                .collect(),
            statement: Settle {
                patience: patience.as_secs_f64(),
                ..Settle::default()
            },
            messages: Vec::new(),
        };
        for (ended, step) in batch.iter().zip(&plan.steps) {
            step.push(&ended.task, &mut plan.statement);
            if let Some(message) = step.message(&ended.task, now, patience) {
                plan.statement.push_message(&message);
                plan.messages.push(message);
            }
        }
        plan
    }
}

/// Starts the settling thread. It ends when every sender is gone and all is written, or at `give_up`.
pub fn spawn(
    config: &Config,
    registry: Registry,
    publisher: Publisher,
    acker: Acker,
    after: After,
    give_up: CancellationToken,
) -> std::io::Result<(Sender<Ended>, JoinHandle<()>)> {
    let (sender, ended) = channel();
    let settler = Settler {
        session: Session::new(&config.database).by_key(),
        wait: Duration::from_millis(config.worker.settle_wait_ms),
        patience: Duration::from_millis(config.outbox.relay_after_ms.into()),
        most_output: config.output.max_bytes,
        park: Duration::from_secs(config.worker.park_s.into()),
        hard_bounce_days: config.mail.hard_bounce_days,
        registry,
        publisher,
        acker,
        after,
        give_up,
    };
    let thread = threads::spawn("settle", move || settler.run(&ended))?;
    Ok((sender, thread))
}

struct Settler {
    session: Session,
    wait: Duration,
    patience: Duration,
    most_output: usize,
    /// How long a task that can't be done here is put aside at first.
    park: Duration,
    /// For how long an address that does not exist gets no mails.
    hard_bounce_days: u32,
    registry: Registry,
    publisher: Publisher,
    acker: Acker,
    after: After,
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
        let most_output = self.most_output;
        let bounced = bounces::of(&batch, self.hard_bounce_days);
        let plan = Plan::of(
            &batch,
            Utc::now(),
            self.patience,
            self.park,
            &mut rand::rng(),
        );
        let settled = match self
            .session
            .run_until(&self.give_up, "settling", |connection| {
                if batch.iter().all(|ended| ended.output.is_empty()) && bounced.is_empty() {
                    plan.statement.run(connection)
                } else {
                    settle_with_more(connection, &batch, &plan.statement, most_output, &bounced)
                }
            }) {
            Some(Ok(settled)) => settled,
            Some(Err(error)) => {
                drop(plan);
                return self.split(batch, &error);
            }
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
        let Plan {
            steps,
            mut messages,
            ..
        } = plan;
        messages.retain(|message| going_on.contains(&message.task_id));
        self.publisher.offer(messages);
        self.after
            .suppressed
            .add(bounced.iter().map(|new| new.address.as_str()));
        self.after(&batch, &steps);
        let mut deliveries = Vec::with_capacity(batch.len());
        for (ended, step) in batch.iter().zip(&steps) {
            let key = (ended.task.id, ended.task.attempt);
            if let Some(cancelled) = settled.get(&(key.0.0, key.1)) {
                step.log(&ended.task, *cancelled);
                ended.output.iter().for_each(Chunk::count);
            } else {
                metrics::counter!("warren_tasks_fenced_total").increment(1);
                tracing::warn!(task.id = %key.0, task.attempt = key.1, "an outcome came too late: the task had moved on");
            }
            deliveries.extend(self.registry.end(key));
        }
        self.acker.settled(deliveries);
    }

    fn after(&self, batch: &[Ended], steps: &[steps::Step<'_>]) {
        let done = batch.iter().zip(steps).map(|(ended, step)| Done {
            queue: ended.task.queue,
            lane: ended.task.lane,
            kind: &ended.task.kind,
            is_final: step.is_final(),
            has_failed: matches!(ended.verdict, Verdict::Failed(_)),
            took: ended.took,
        });
        self.after.tally.note(done);
        if batch.iter().any(|ended| ended.task.limited) {
            let _stopping = self.after.lines.send(Signal::Room);
        }
    }

    /// One outcome whose values PostgreSQL refuses must not hold up the others.
    fn split(&mut self, mut batch: Vec<Ended>, error: &diesel::result::Error) {
        if let [only] = batch.as_mut_slice() {
            if !only.output.is_empty() {
                tracing::error!(task.id = %only.task.id, error = error as &dyn std::error::Error, "the last output could not be written with its outcome and is dropped");
                only.output.clear();
                return self.settle(batch);
            }
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

/// Whoever sees an outcome finds what belongs to it: the last output before it, and the address that gets no more mails
/// for it. It is one transaction.
fn settle_with_more(
    connection: &mut PgConnection,
    batch: &[Ended],
    statement: &Settle,
    most_output: usize,
    bounced: &[rows::New],
) -> QueryResult<HashMap<(Uuid, i32), bool>> {
    let mut output = StoreLast::default();
    let mut room = MakeRoom::default();
    for ended in batch {
        let key = (ended.task.id, ended.task.attempt);
        for chunk in &ended.output {
            output.push(key, chunk);
            room.push(key, chunk);
        }
    }
    connection.transaction(|connection| {
        output.run(connection)?;
        room.run(connection, most_output)?;
        if !bounced.is_empty() {
            rows::add(connection, bounced)?;
        }
        statement.run(connection)
    })
}
