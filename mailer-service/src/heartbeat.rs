//! The lease: one row for this process, renewed every few seconds, that covers all the tasks it runs.
//!
//! Should the process ever learn that it was declared dead (it was frozen, or cut off from the database
//! while others were not), its running tasks may be somebody else's by now: they are cancelled, their
//! outcomes are fenced, and the process goes on under a new id.

mod vitals;

pub use vitals::Vitals;

use crate::queries::{
    rates,
    workers::{self, NewWorker, Report},
};
use diesel::{PgConnection, QueryResult};
use shared::{clock, config::Config, db::Session, gate::Gate, kinds::KINDS, task::Queue, threads};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Who this process is, as far as leases go.
#[derive(Debug, Clone)]
pub struct Identity {
    held: Arc<Mutex<Held>>,
    lease: Duration,
}

#[derive(Debug)]
struct Held {
    id: Uuid,
    /// When the lease was last renewed. This clock goes on while the process is frozen.
    renewed: Instant,
}

impl Identity {
    pub fn new(lease: Duration) -> Self {
        let held = Held {
            id: Uuid::now_v7(),
            renewed: Instant::now(),
        };
        Self {
            held: Arc::new(Mutex::new(held)),
            lease,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self) -> Uuid {
        self.lock().id
    }

    /// Nobody can have declared this process dead yet.
    pub fn is_held(&self) -> bool {
        self.lock().renewed.elapsed() < self.lease
    }

    fn renew(&self, id: Uuid, renewed: Instant) {
        *self.lock() = Held { id, renewed };
    }
}

/// Starts the thread. `registered` opens when the lease is held; `stop` ends the lease.
pub fn spawn(
    config: &Config,
    identity: Identity,
    vitals: Vitals,
    lost: impl Fn() + Send + 'static,
    registered: Gate,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let heart = Heart {
        session: Session::new(&config.database),
        pause: Duration::from_secs(config.rescue.heartbeat_s),
        host: host_name(),
        queues: Queue::ALL
            .iter()
            .filter(|queue| config.worker.queues.get(**queue).slots > 0)
            .map(|queue| queue.as_str())
            .collect(),
        identity,
        vitals,
        stop,
    };
    threads::spawn("heartbeat", move || heart.run(&lost, &registered))
}

/// Nothing is claimed without the lease, so it is taken up again soon after the database is back.
const AFTER_A_MISS: Duration = Duration::from_millis(250);

struct Heart {
    session: Session,
    pause: Duration,
    host: String,
    queues: Vec<&'static str>,
    identity: Identity,
    vitals: Vitals,
    stop: CancellationToken,
}

impl Heart {
    fn run(mut self, lost: &impl Fn(), registered: &Gate) {
        let id = self.identity.get();
        let asked = Instant::now();
        let open = self.register(id);
        self.identity.renew(id, asked);
        registered.set(open);
        let mut pause = self.pause;
        let mut missed = false;
        while threads::rest(&self.stop, pause) {
            pause = self.pause;
            let id = self.identity.get();
            let asked = Instant::now();
            let report = self.vitals.report(chrono::Utc::now());
            match self.session.run(|connection| beat(connection, id, &report)) {
                Ok(true) => self.identity.renew(id, asked),
                Ok(false) => {
                    tracing::error!(worker.id = %id, "this worker was declared dead; its running tasks are given up and it goes on under a new id");
                    lost();
                    // Registered first: a claim under an id that is not would look stranded.
                    let fresh = Uuid::now_v7();
                    if self.register(fresh) {
                        self.identity.renew(fresh, asked);
                    }
                }
                // The reaper reads the same database, so it can't see us miss a beat while that is away.
                Err(error) => {
                    pause = self.pause.min(AFTER_A_MISS);
                    if !missed {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "heartbeats are missed"
                        );
                    }
                    missed = true;
                    continue;
                }
            }
            missed = false;
            self.write_rates();
        }
        self.write_rates();
        let id = self.identity.get();
        if let Err(error) = self
            .session
            .run(|connection| workers::stopped(connection, id))
        {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the end of this worker was not noted"
            );
        }
    }

    fn write_rates(&mut self) {
        let counts = self.vitals.tally.take();
        if counts.is_empty() {
            return;
        }
        if let Err(error) = self
            .session
            .run(|connection| rates::add(connection, &counts))
        {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the rates could not be written"
            );
            self.vitals.tally.put_back(counts);
        }
    }

    /// False: the service stops.
    fn register(&mut self, id: Uuid) -> bool {
        let pid = std::process::id();
        let worker = NewWorker {
            id,
            name: format!("{}-{pid}", self.host),
            host: self.host.clone(),
            pid: i32::try_from(pid).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION"),
            queues: self.queues.clone(),
            kinds: KINDS.iter().map(|kind| kind.name).collect(),
            state: "alive",
        };
        let registered = self
            .session
            .run_until(&self.stop, "registering", |connection| {
                workers::register(connection, &worker)
            });
        match registered {
            Some(Ok(())) => {
                tracing::info!(worker.id = %id, worker.queues = ?self.queues, "worker registered");
                true
            }
            Some(Err(error)) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the worker could not be registered"
                );
                false
            }
            None => false,
        }
    }
}

/// Renews the lease, and notes how far this clock is from the database's. False: the worker was declared dead.
fn beat(connection: &mut PgConnection, id: Uuid, report: &Report) -> QueryResult<bool> {
    let skew = clock::skew(connection)?;
    metrics::gauge!("warren_clock_skew_seconds").set(skew.ahead);
    workers::beat(connection, id, report, skew.ahead)
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}
