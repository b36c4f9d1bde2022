//! One queue's dispatcher: a plain thread with a connection of its own that gathers deliveries, claims as
//! many as there are free slots in one statement, and starts their handlers.
//!
//! While a claim is under way, deliveries and freed slots pile up in its channel, so batches form by
//! themselves under load and a lone delivery is never delayed.

use crate::{
    gate::{self, Passed},
    handlers::{Context, Services},
    heartbeat::Identity,
    lanes::{self, PerLane},
    load::Loads,
    point::{Point, Recorder},
    policy::Policies,
    progress::Board,
    queries::claim::{Claim, Claims},
    registry::{Begin, Registry},
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
    collections::VecDeque,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

/// RabbitMQ closes a channel whose delivery is not acknowledged for 30 minutes; a task that may run longer
/// than this is acknowledged right after its claim, and its lease alone protects it.
const LONG: Duration = Duration::from_secs(20 * 60);

/// How often a lost lease is looked at.
const LEASE_LOOK: Duration = Duration::from_millis(20);

/// What the dispatcher hears of.
#[derive(Debug)]
pub enum Event {
    Delivered(Envelope, DeliveryRef),
    /// From the line of a limit: there is no message behind it.
    CalledUp(Envelope),
    SlotFree(Lane),
    /// Whether nothing new is begun; what waits goes back to RabbitMQ.
    Hold(bool),
    Stop,
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
    let slots = config.worker.queues.get(queue).slots;
    common.loads.set_slots(queue, slots);
    let dispatcher = Dispatcher {
        queue,
        on_hold: true,
        session: Session::new(&config.database).by_key(),
        claim_batch: config.worker.claim_batch,
        slots,
        reserved: lanes::reserved(slots),
        running: PerLane::default(),
        waiting: [const { VecDeque::new() }; 3],
        called: [const { VecDeque::new() }; 3],
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
    slots: usize,
    reserved: PerLane,
    running: PerLane,
    /// By lane.
    waiting: [VecDeque<(Envelope, DeliveryRef)>; 3],
    /// From the lines of limits; they go first.
    called: [VecDeque<Envelope>; 3],
    events: Sender<Event>,
    common: Common,
    stop: CancellationToken,
}

impl Dispatcher {
    fn run(mut self, events: &Receiver<Event>) {
        while let Ok(event) = events.recv() {
            let mut next = Some(event);
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
                self.waiting[envelope.lane as usize].push_back((envelope, delivery));
            }
            Event::CalledUp(envelope) => {
                self.called[envelope.lane as usize].push_back(envelope);
                if self.on_hold {
                    self.give_up_called([]);
                }
            }
            Event::Hold(on_hold) => self.hold(on_hold),
            Event::SlotFree(lane) => self.running.remove_one(lane),
            Event::Stop => return false,
        }
        true
    }

    fn hold(&mut self, on_hold: bool) {
        self.on_hold = on_hold;
        if !on_hold {
            return;
        }
        let held = self.waiting.iter_mut().flat_map(|lane| lane.drain(..));
        let back = held.map(|(_, delivery)| delivery).collect();
        self.common.acker.requeue(back);
        self.give_up_called([]);
    }

    /// Sends back into their lines what was called up, and what comes too late.
    fn give_up_called(&mut self, late: impl IntoIterator<Item = Event>) {
        let late = late.into_iter().filter_map(|event| match event {
            Event::CalledUp(envelope) => Some(envelope),
            _ => None,
        });
        let held = self.called.iter_mut().flat_map(|lane| lane.drain(..));
        let ids: Vec<_> = held.chain(late).map(|envelope| envelope.id.0).collect();
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
        let held: usize = Lane::ALL.iter().map(|lane| self.held(*lane)).sum();
        self.common.loads.set(self.queue, self.running.sum(), held);
    }

    fn held(&self, lane: Lane) -> usize {
        self.called[lane as usize].len() + self.waiting[lane as usize].len()
    }

    fn next_of(&mut self, lane: Lane) -> Option<(Envelope, Option<DeliveryRef>)> {
        if let Some(envelope) = self.called[lane as usize].pop_front() {
            self.common.loads.begun(self.queue);
            return Some((envelope, None));
        }
        let (envelope, delivery) = self.waiting[lane as usize].pop_front()?;
        Some((envelope, Some(delivery)))
    }

    /// As many waiting tasks as there are free slots, each lane by its right.
    fn pick(&mut self) -> Vec<Envelope> {
        let mut batch = Vec::new();
        let mut waiting = PerLane::default();
        for lane in Lane::ALL {
            waiting.set(*lane, self.held(*lane));
        }
        while batch.len() < self.claim_batch && self.running.sum() < self.slots {
            let Some(lane) = lanes::next_lane(waiting, self.running, self.reserved) else {
                break;
            };
            let Some((envelope, delivery)) = self.next_of(lane) else {
                break;
            };
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

    fn start(&self, task: Claimed, worker: Uuid) {
        let key = (task.id, task.attempt);
        let limits = task.limits();
        if limits.hard > LONG {
            self.common.acker.settled(
                self.common
                    .registry
                    .take_delivery(key)
                    .into_iter()
                    .collect(),
            );
        }
        let context = Context {
            task: task.id,
            attempt: task.attempt,
            deadline: tokio::time::Instant::now() + limits.hard,
            run_at: task.run_at,
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
        let lane = task.lane;
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
            let _stopping = events.send(Event::SlotFree(lane));
        };
        self.common.tasks.spawn_on(run, &self.common.runtime);
    }
}
