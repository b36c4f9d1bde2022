//! What people ask of this process, and what its tasks have to say meanwhile: a thread that looks into PostgreSQL
//! twice a second for pauses, limits, a drain and running tasks that are to be cancelled, and writes progress and output.
//!
//! Asking the database instead of listening to a broadcast means that no request is ever lost, whatever was down when
//! it was made; the question costs a look at the rows that run here and at three small tables.

mod drain;

pub use drain::{Drain, Then, Watermarks};

use crate::{
    dispatcher::{Common, Event},
    heartbeat::Identity,
    load::Loads,
    policy::Policies,
    progress::{Board, Word},
    queries::{
        control::{self, Written},
        output::MakeRoom,
        policy,
    },
    registry::Registry,
    settle,
};
use shared::{
    config::Config,
    db::{DbError, Session, is_about_data},
    gate::Gate,
    kinds::KINDS,
    task::{Queue, TaskId},
    threads,
};
use std::{
    collections::HashSet,
    sync::{Arc, mpsc::Sender},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two looks for what is due to be written.
const TICK: Duration = Duration::from_millis(50);
/// Ticks between two looks for what people want.
const LOOK: u32 = 10;
/// Tasks of a kind that was not known that are woken in one tick.
const WOKEN_AT_ONCE: usize = 1000;

/// What the thread needs besides what all dispatchers share.
pub struct Wires {
    pub queues: Vec<(Queue, Sender<Event>)>,
    pub loads: Loads,
    /// Queues of which nothing new is begun; the consumer follows it.
    pub on_hold: watch::Sender<HashSet<Queue>>,
    pub drain: Drain,
}

/// Starts the thread, which works from when `registered` opens until `stop`.
pub fn spawn(
    config: &Config,
    common: &Common,
    wires: Wires,
    registered: Gate,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let control = Control {
        session: Session::new(&config.database).by_key(),
        registry: common.registry.clone(),
        board: common.board.clone(),
        policies: common.policies.clone(),
        identity: common.identity.clone(),
        wires,
        longest_park: settle::longest_park(Duration::from_secs(config.worker.park_s.into())),
    };
    threads::spawn("control", move || {
        if registered.wait() {
            control.run(&stop);
        }
    })
}

struct Control {
    session: Session,
    registry: Registry,
    board: Board,
    policies: Policies,
    identity: Identity,
    wires: Wires,
    longest_park: Duration,
}

impl Control {
    fn run(mut self, stop: &CancellationToken) {
        let mut ticks = 0_u32;
        let mut all_awake = false;
        while !stop.is_cancelled() {
            let due = self.board.due(Instant::now());
            self.write(due);
            all_awake = all_awake || self.wake_parked();
            if ticks.is_multiple_of(LOOK) {
                self.read_policy();
                self.look_for_drain();
                self.cancel();
            }
            ticks = ticks.wrapping_add(1);
            threads::rest(stop, TICK);
        }
    }

    /// The loops that can't do without the database report its absence.
    fn ask<T>(
        &mut self,
        what: &str,
        question: impl FnOnce(&mut diesel::PgConnection) -> diesel::QueryResult<T>,
    ) -> Option<T> {
        let answer = self.session.run(question);
        answer
            .inspect_err(|error| {
                tracing::debug!(
                    error = error as &dyn std::error::Error,
                    "{what} had to be put off"
                );
            })
            .ok()
    }

    fn read_policy(&mut self) {
        if let Some(policy) = self.ask("reading the limits", policy::read) {
            self.policies.set(Arc::new(policy));
        }
    }

    fn look_for_drain(&mut self) {
        let worker = self.identity.get();
        let asked = self.ask("looking for a drain", |connection| {
            policy::drain(connection, worker)
        });
        let note = asked.and_then(|asked| {
            let asked = asked.as_deref().and_then(Then::parse);
            self.wires.drain.look(worker, asked)
        });
        if let Some(then) = note {
            let noted = self.ask("noting a drain", |connection| {
                policy::note_drain(connection, worker, then.as_str())
            });
            if noted.is_some() {
                self.wires.drain.noted(then, worker);
            }
        }
        self.hold();
        let is_idle = self.registry.is_empty() && self.wires.loads.is_idle();
        self.wires.drain.end_if(is_idle);
    }

    /// Tells dispatchers and consumer which queues are on hold now.
    fn hold(&mut self) {
        // Until the pauses are known, nothing is taken.
        let Some(policy) = self.policies.get() else {
            return;
        };
        let is_draining = self.wires.drain.is_on();
        let is_held = |queue: Queue| is_draining || policy.paused_queues.contains(&queue);
        let now: HashSet<Queue> = Queue::ALL.iter().copied().filter(|q| is_held(*q)).collect();
        let before = self.wires.on_hold.borrow().clone();
        if now == before {
            return;
        }
        for (queue, events) in &self.wires.queues {
            let held = now.contains(queue);
            if held != before.contains(queue) {
                tracing::info!(
                    "queue {queue} is {}",
                    if held { "on hold" } else { "taken from" }
                );
                let _stopping = events.send(Event::Hold(held));
            }
        }
        self.wires.on_hold.send_replace(now);
    }

    /// This process may be the one that tasks of a new kind wait for. True: there are no more of them.
    fn wake_parked(&mut self) -> bool {
        let known: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        let limit = i64::try_from(WOKEN_AT_ONCE).unwrap_or(i64::MAX);
        let longest = self.longest_park;
        match self
            .session
            .run(|connection| control::wake_parked(connection, &known, longest, limit))
        {
            Ok(0) => true,
            Ok(count) => {
                tracing::info!("{count} tasks waited for a worker that knows their kind");
                count < WOKEN_AT_ONCE
            }
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "tasks that were put aside could not be woken yet"
                );
                false
            }
        }
    }

    fn cancel(&mut self) {
        if self.registry.is_empty() {
            return;
        }
        let running = self.registry.tasks();
        let keys = self.ask("looking for cancellations", |connection| {
            control::to_cancel(connection, &running)
        });
        for (id, attempt) in keys.into_iter().flatten() {
            self.registry.cancel((TaskId(id), attempt));
        }
    }

    fn write(&mut self, mut words: Vec<Word>) {
        if words.is_empty() {
            return;
        }
        match self
            .session
            .run(|connection| control::write(connection, &words))
        {
            Ok(written) => self.note(words, written),
            // One that PostgreSQL refuses must not hold up the others.
            Err(DbError::Refused(error)) if is_about_data(&error) => {
                if let [only] = words.as_slice() {
                    let (id, attempt) = only.key;
                    tracing::error!(
                        task.id = %id, task.attempt = attempt, error = &error as &dyn std::error::Error,
                        "progress or output of a task could not be written and is dropped"
                    );
                    self.board.refuse(only.key);
                    return;
                }
                let right = words.split_off(words.len() / 2);
                self.write(words);
                self.write(right);
            }
            // The loops that can't do without the database report its absence.
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "progress and output could not be written yet"
                );
                self.board.put_back(words);
            }
        }
    }

    fn note(&mut self, words: Vec<Word>, written: Written) {
        self.board.written(&words, &written.keys);
        self.board.forget(written.fenced);
        let mut room = MakeRoom::default();
        for word in words.iter().filter(|word| written.keys.contains(&word.key)) {
            if let Some(chunk) = &word.chunk {
                room.push(word.key, chunk);
            }
        }
        let most = self.board.limits().most;
        if let Err(error) = self.session.run(|connection| room.run(connection, most)) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the output of earlier attempts was not shortened; the next attempt does it"
            );
        }
        let is_left = |word: &Word| !written.keys.contains(&word.key);
        self.board
            .put_back(words.into_iter().filter(is_left).collect());
    }
}
