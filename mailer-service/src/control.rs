//! What people ask of this process, and what its tasks have to say meanwhile: a thread that looks into PostgreSQL
//! twice a second for pauses, limits, a drain and running tasks that are to be cancelled, writes progress, and calls up
//! tasks from the lines of limits.
//!
//! Asking the database instead of listening to a broadcast means that no request is ever lost, whatever was down when
//! it was made; the question costs a look at the rows that run here and at three small tables.

mod drain;

pub use drain::{Drain, Then, Watermarks};

use crate::{
    dispatcher::{Common, Event},
    heartbeat::Identity,
    policy::Policies,
    progress::Board,
    queries::{
        control::{self, WriteProgress},
        policy,
    },
    registry::Registry,
    wake::{self, Doors},
};
use shared::{
    config::Config,
    db::Session,
    gate::Gate,
    task::{Queue, TaskId},
    threads,
};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Progress is written at most so often.
const TICK: Duration = Duration::from_millis(250);
/// Ticks between two looks for what people want.
const LOOK: u32 = 2;
/// Ticks between two looks for tasks that still stand in the line of a limit that is gone.
const LEFT_OVER: u32 = 8;

/// What the thread needs besides what all dispatchers share.
pub struct Wires {
    pub doors: Doors,
    /// Queues of which nothing new is begun; the consumer follows it.
    pub on_hold: watch::Sender<HashSet<Queue>>,
    /// The end of an attempt has made room under a limit.
    pub room: Receiver<()>,
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
        session: Session::new(&config.database),
        registry: common.registry.clone(),
        board: common.board.clone(),
        policies: common.policies.clone(),
        identity: common.identity.clone(),
        wires,
        has_lines: true,
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
    /// Tasks wait in the lines of limits, as far as is known.
    has_lines: bool,
}

impl Control {
    fn run(mut self, stop: &CancellationToken) {
        let mut ticks = 0_u32;
        let mut next = Instant::now();
        while !stop.is_cancelled() {
            match self
                .wires
                .room
                .recv_timeout(next.saturating_duration_since(Instant::now()))
            {
                Ok(()) => {
                    while self.wires.room.try_recv().is_ok() {}
                    self.call_up();
                    // However often that happens, the rest is not kept waiting.
                    if Instant::now() < next {
                        continue;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The settler has ended, and with it all tasks.
                Err(RecvTimeoutError::Disconnected) => {
                    if !threads::rest(stop, TICK) {
                        break;
                    }
                }
            }
            next = Instant::now() + TICK;
            self.write_progress();
            if ticks.is_multiple_of(LOOK) {
                self.read_policy();
                self.look_for_drain();
                self.cancel();
            }
            let is_open = self.policies.get().is_none_or(|policy| policy.is_open());
            if !is_open || self.has_lines || ticks.is_multiple_of(LEFT_OVER) {
                self.call_up();
            }
            ticks = ticks.wrapping_add(1);
        }
        self.write_progress();
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
            self.ask("noting a drain", |connection| {
                policy::note_drain(connection, worker, then.as_str())
            });
        }
        self.hold();
        let is_idle = self.registry.is_empty() && self.wires.doors.loads.is_idle();
        self.wires.drain.end_if(is_idle);
    }

    /// Tells dispatchers and consumer which queues are on hold now.
    fn hold(&mut self) {
        let paused = self.policies.get();
        let is_draining = self.wires.drain.is_on();
        let is_held = |queue: Queue| {
            is_draining
                || paused
                    .as_ref()
                    .is_some_and(|p| p.paused_queues.contains(&queue))
        };
        let now: HashSet<Queue> = Queue::ALL.iter().copied().filter(|q| is_held(*q)).collect();
        let before = self.wires.on_hold.borrow().clone();
        if now == before {
            return;
        }
        for (queue, events) in &self.wires.doors.queues {
            let held = now.contains(queue);
            if held != before.contains(queue) {
                tracing::info!(
                    "queue {queue} is {}",
                    if held { "on hold" } else { "taken from again" }
                );
                let _stopping = events.send(Event::Hold(held));
            }
        }
        self.wires.on_hold.send_replace(now);
    }

    fn call_up(&mut self) {
        let (Some(policy), true) = (self.policies.get(), self.identity.is_held()) else {
            return;
        };
        if self.wires.drain.is_on() {
            return;
        }
        let doors = self.wires.doors.clone();
        if let Some(has_lines) = self.ask("calling up tasks", |connection| {
            wake::round(connection, &policy, &doors)
        }) {
            self.has_lines = has_lines;
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

    fn write_progress(&mut self) {
        let said = self.board.take();
        if said.is_empty() {
            return;
        }
        let mut statement = WriteProgress::default();
        for ((id, attempt), progress) in &said {
            statement.id.push(id.0);
            statement.attempt.push(*attempt);
            statement
                .progress
                .push(serde_json::to_string(progress).unwrap_or_else(|_| "null".into()));
        }
        if self
            .ask("writing progress", |connection| statement.run(connection))
            .is_none()
        {
            self.board.put_back(said);
        }
    }
}
