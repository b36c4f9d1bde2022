//! One queue's dispatcher: a plain thread with a connection of its own that gathers deliveries, claims as
//! many as there are free slots in one statement, and starts their handlers.
//!
//! While a claim is under way, deliveries and freed slots pile up in its channel, so batches form by
//! themselves under load and a lone delivery is never delayed.

mod waiting;

use self::waiting::Waiting;
use crate::{
    gate::{self, Passed},
    handlers::{Context, Services},
    heartbeat::Identity,
    lanes::{PerLane, Turns},
    load::Loads,
    point::{Point, Recorder},
    policy::Policies,
    progress::Board,
    queries::claim::{Claim, Claims},
    registry::{Begin, Registry, Release},
    runner,
    settle::{Acker, DeliveryRef, Ended},
    task::Claimed,
    wake::Signal,
};
use shared::{
    config::Config,
    db::Session,
    envelope::Envelope,
    task::{Lane, Queue},
    threads,
};
use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

/// How often a lost lease is looked at.
const LEASE_LOOK: Duration = Duration::from_millis(20);

/// What the dispatcher hears of.
#[derive(Debug)]
pub enum Event {
    Delivered(Envelope, DeliveryRef),
    /// From the line of a limit: there is no message behind it.
    CalledUp(Envelope),
    SlotFree(Freed),
    /// Whether nothing new is begun; what waits goes back to RabbitMQ.
    Hold(bool),
    Stop,
}

/// A slot whose task has ended.
#[derive(Debug, Clone, Copy)]
pub struct Freed {
    lane: Lane,
    /// The task's delivery had not been acknowledged before.
    had_delivery: bool,
}

/// What all dispatchers share.
#[derive(Clone)]
pub struct Common {
    pub services: Arc<Services>,
    pub registry: Registry,
    pub acker: Acker,
    pub settle: Sender<Ended>,
    /// Takes back what was called up for nothing.
    pub lines: Sender<Signal>,
    pub identity: Identity,
    pub board: Board,
    pub policies: Policies,
    pub loads: Loads,
    pub recorder: Recorder,
    /// Cancels every running task.
    pub cancel: CancellationToken,
    /// Drops every running task and gives it back.
    pub release: CancellationToken,
    pub tasks: TaskTracker,
    pub runtime: Handle,
}

/// Starts the thread. It ends at [`Event::Stop`].
pub fn spawn(
    config: &Config,
    queue: Queue,
    common: Common,
    stop: CancellationToken,
) -> std::io::Result<(Sender<Event>, JoinHandle<()>)> {
    let (sender, events) = channel();
    let room = config.worker.queues.get(queue);
    common.loads.set_room(queue, room);
    let dispatcher = Dispatcher {
        queue,
        on_hold: true,
        session: Session::new(&config.database).by_key(),
        claim_batch: config.worker.claim_batch,
        ack_within: Duration::from_secs(config.worker.ack_within_s.into()),
        slots: room.slots,
        turns: Turns::new(room.slots),
        running: PerLane::default(),
        unacked: 0,
        waiting: Waiting::default(),
        events: sender.clone(),
        common,
        stop,
    };
    let thread = threads::spawn(&format!("dispatch-{queue}"), move || {
        dispatcher.run(&events);
    })?;
    Ok((sender, thread))
}

struct Dispatcher {
    queue: Queue,
    /// Until told otherwise, nothing is begun.
    on_hold: bool,
    session: Session,
    claim_batch: usize,
    /// RabbitMQ closes a channel on which a delivery is not acknowledged for too long.
    ack_within: Duration,
    slots: usize,
    turns: Turns,
    running: PerLane,
    /// Of what runs, those whose delivery is acknowledged at their end.
    unacked: usize,
    waiting: Waiting,
    events: Sender<Event>,
    common: Common,
    stop: CancellationToken,
}

impl Dispatcher {
    fn run(mut self, events: &Receiver<Event>) {
        loop {
            let mut next = match events.recv_timeout(self.patience()) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.give_back_older(self.ack_within);
            while let Some(event) = next {
                if !self.note(event) {
                    self.give_up_called(events.try_iter());
                    return;
                }
                next = events.try_recv().ok();
            }
            while let batch = self.pick()
                && !batch.is_empty()
            {
                self.report();
                if !self.claim(&batch) {
                    return;
                }
            }
            self.report();
        }
    }

    /// False: stop.
    fn note(&mut self, event: Event) -> bool {
        match event {
            Event::Delivered(_, delivery) if self.on_hold => {
                self.common.acker.requeue(vec![delivery]);
            }
            Event::Delivered(envelope, delivery) => {
                self.waiting.push(envelope, delivery);
            }
            Event::CalledUp(envelope) => {
                self.waiting.push_called(envelope);
                if self.on_hold {
                    self.give_up_called([]);
                }
            }
            Event::Hold(on_hold) => self.hold(on_hold),
            Event::SlotFree(Freed { lane, had_delivery }) => {
                self.running.remove_one(lane);
                self.unacked -= usize::from(had_delivery);
            }
            Event::Stop => return false,
        }
        true
    }

    /// Until the delivery that has waited longest here is overdue.
    fn patience(&self) -> Duration {
        self.ack_within.saturating_sub(self.waiting.longest())
    }

    /// Gives back to RabbitMQ what has waited here for so long.
    fn give_back_older(&mut self, than: Duration) {
        let late = self.waiting.take_older(than);
        if !late.is_empty() {
            self.common.acker.requeue(late);
        }
    }

    fn hold(&mut self, on_hold: bool) {
        self.on_hold = on_hold;
        if on_hold {
            self.give_back_older(Duration::ZERO);
            self.give_up_called([]);
        }
    }

    /// Sends back into their lines what was called up, and what comes too late.
    fn give_up_called(&mut self, late: impl IntoIterator<Item = Event>) {
        let mut ids = self.waiting.take_called();
        ids.extend(late.into_iter().filter_map(|event| match event {
            Event::CalledUp(envelope) => Some(envelope.id.0),
            _ => None,
        }));
        if ids.is_empty() {
            return;
        }
        for _ in &ids {
            self.common.loads.begun(self.queue);
        }
        // Without anybody there, they are called again when their time is over.
        let _ended = self.common.lines.send(Signal::Back(ids));
    }

    fn report(&self) {
        let unacked = self.unacked + self.waiting.deliveries();
        let (running, held) = (self.running.sum(), self.waiting.count().sum());
        self.common.loads.set(self.queue, running, held, unacked);
    }

    /// As many waiting tasks as there are free slots, each lane by its right.
    fn pick(&mut self) -> Vec<Envelope> {
        let mut batch = Vec::new();
        let mut waiting = self.waiting.count();
        while batch.len() < self.claim_batch && self.running.sum() < self.slots {
            let Some(lane) = self.turns.next_lane(waiting, self.running) else {
                break;
            };
            let Some((envelope, delivery)) = self.waiting.pop(lane) else {
                break;
            };
            if delivery.is_none() {
                self.common.loads.begun(self.queue);
            }
            waiting.remove_one(lane);
            let key = (envelope.id, envelope.attempt);
            match self
                .common
                .registry
                .begin(key, delivery, &self.common.cancel)
            {
                Begin::New => {
                    self.running.add(lane, 1);
                    batch.push(envelope);
                }
                Begin::Adopted(earlier) => self.common.acker.settled(earlier.into_iter().collect()),
            }
        }
        batch
    }

    /// What is claimed without the lease could not be begun. False: stop.
    fn wait_for_lease(&self) -> bool {
        while !self.common.identity.is_held() {
            if !threads::rest(&self.stop, LEASE_LOOK) {
                return false;
            }
        }
        true
    }

    /// Claims and starts a batch. False: stop.
    fn claim(&mut self, batch: &[Envelope]) -> bool {
        if !self.wait_for_lease() {
            return false;
        }
        let policies = self.common.policies.clone();
        let Some(policy) = policies.get_or_read(&mut self.session, &self.stop) else {
            return false;
        };
        let worker = self.common.identity.get();
        let statement = Claim::new(
            worker,
            batch.iter().map(|envelope| envelope.id.0).collect(),
            batch.iter().map(|envelope| envelope.attempt).collect(),
        );
        let Passed { claims, put_off } =
            match self
                .session
                .run_until(&self.stop, "claiming", |connection| {
                    gate::claim(connection, &statement, &policy)
                }) {
                Some(Ok(passed)) => passed,
                Some(Err(error)) => return self.claim_apart(batch, &error),
                None => return false,
            };
        #[expect(
            clippy::cast_precision_loss,
            reason = "a batch has a few hundred tasks"
        )]
        metrics::histogram!("warren_claim_batch_size").record(batch.len() as f64);
        metrics::counter!("warren_tasks_expired_total").increment(claims.expired.len() as u64);
        metrics::counter!("warren_tasks_put_off_total").increment(put_off as u64);
        self.drop_unclaimed(batch, &claims, put_off);
        for task in claims.claimed {
            self.start(task, worker);
        }
        true
    }

    /// One message whose values PostgreSQL refuses must not hold up the others; it is parked.
    fn claim_apart(&mut self, batch: &[Envelope], error: &diesel::result::Error) -> bool {
        if batch.len() > 1 {
            let (left, right) = batch.split_at(batch.len() / 2);
            return self.claim(left) && self.claim(right);
        }
        for envelope in batch {
            metrics::counter!("warren_messages_parked_total").increment(1);
            tracing::error!(task.id = %envelope.id, error = error as &dyn std::error::Error, "a message was parked: it can't be claimed");
            self.running.remove_one(envelope.lane);
            let key = (envelope.id, envelope.attempt);
            if let Some(delivery) = self.common.registry.end(key) {
                self.common.acker.park(delivery);
            }
        }
        true
    }

    /// Finished, cancelled, expired, put off or claimed elsewhere: nothing is left behind these messages.
    fn drop_unclaimed(&mut self, batch: &[Envelope], claims: &Claims, put_off: usize) {
        if claims.claimed.len() == batch.len() {
            return;
        }
        let claimed: std::collections::HashSet<_> = claims
            .claimed
            .iter()
            .map(|task| (task.id, task.attempt))
            .collect();
        let mut dropped = Vec::new();
        for envelope in batch {
            let key = (envelope.id, envelope.attempt);
            if !claimed.contains(&key) {
                self.running.remove_one(envelope.lane);
                dropped.extend(self.common.registry.end(key));
            }
        }
        metrics::counter!("warren_messages_stale_total")
            .increment(dropped.len().saturating_sub(claims.expired.len() + put_off) as u64);
        self.common.acker.settled(dropped);
    }

    fn start(&mut self, task: Claimed, worker: Uuid) {
        let key = (task.id, task.attempt);
        let limits = task.limits();
        let registry = &self.common.registry;
        let release = registry.release_delivery(key, limits.hard, self.ack_within);
        let had_delivery = matches!(release, Release::Keep);
        self.unacked += usize::from(had_delivery);
        if let Release::Acknowledge(delivery) = release {
            self.common.acker.settled(vec![delivery]);
        }
        let now = tokio::time::Instant::now();
        let context = Context {
            task: task.id,
            attempt: task.attempt,
            deadline: now + limits.hard,
            run_at: task.run_at,
            useful_until: task.useful_for.and_then(|time| now.checked_add(time)),
            cancelled: self.common.registry.cancel_token(key),
            lease: self.common.identity.clone(),
            board: self.common.board.clone(),
            point: Point::of(&task, worker, &self.common.recorder),
        };
        let (services, release) = (
            Arc::clone(&self.common.services),
            self.common.release.clone(),
        );
        let (settle, events) = (self.common.settle.clone(), self.events.clone());
        let freed = Freed {
            lane: task.lane,
            had_delivery,
        };
        let run = async move {
            let begin = tokio::time::Instant::now();
            let verdict = runner::run(&task, &context, limits, &services, &release).await;
            let took = begin.elapsed();
            let output = context.board.finish(key);
            // Both ends outlive the tasks: the dispatcher and the settler stop after them.
            let _stopping = settle.send(Ended {
                task,
                verdict,
                took,
                output,
            });
            let _stopping = events.send(Event::SlotFree(freed));
        };
        self.common.tasks.spawn_on(run, &self.common.runtime);
    }
}
