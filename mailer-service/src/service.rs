//! Puts the worker together, and takes it apart in the order in which nothing is lost: stop consuming, let
//! running tasks finish, give the rest back, settle, acknowledge, close.

use crate::{
    consumer::Consuming,
    control::{self, Drain, Then, Watermarks, Wires},
    dispatcher::{self, Common, Event},
    handlers::Services,
    heartbeat::{self, Identity, Vitals},
    http::{self, Health},
    load::{Loads, tally::Tally},
    point::Recorder,
    policy::Policies,
    progress::Board,
    registry::Registry,
    settle::{self, Acker, After},
    setup::SetupError,
    wake::Doors,
};
use shared::{
    broker::LinkState,
    config::Config,
    db,
    gate::Gate,
    outbox::Sweeper,
    publisher::Publisher,
    task::Queue,
    telemetry::{self, TelemetryError},
    threads,
};
use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};
use tokio::{runtime::Handle, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Why the service can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error("a part of the service could not be started")]
    Io(#[from] std::io::Error),
}

/// How long the last outcomes may wait for the database.
const LAST_SETTLEMENT: Duration = Duration::from_secs(10);

/// The service ended because it could not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the service could not get to work; the log says why")]
pub struct Failed;

/// How the service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop.
    Stopped,
    /// It has done enough: a fresh process should take its place.
    Restart,
}

/// A running worker.
pub struct Running {
    /// Where health and metrics are.
    pub http_addr: SocketAddr,
    done: tokio::task::JoinHandle<Result<Ended, Failed>>,
}

impl Running {
    /// Waits until the service has stopped.
    pub async fn wait(self) -> Result<Ended, Failed> {
        self.done.await.unwrap_or_else(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the service did not stop in order"
            );
            Err(Failed)
        })
    }
}

/// Starts everything; `stop` begins the orderly end. Waits for neither database nor broker.
pub fn start(config: &Config, stop: CancellationToken) -> Result<Running, StartError> {
    telemetry::metrics()?;
    let services = Services::new(config)?;
    // Ends the loops that support the tasks, after the tasks.
    let finish = CancellationToken::new();
    let (fates, sweeper) = Sweeper::spawn(&config.database, finish.clone())?;
    let (publisher, publishing) = Publisher::spawn(
        &config.broker,
        "warren mailer publisher".into(),
        fates,
        finish.clone(),
    );
    let acker = Acker::spawn();
    let registry = Registry::default();
    let give_up = CancellationToken::new();
    let tally = Tally::default();
    let (has_room, room) = channel();
    let after = After {
        tally: tally.clone(),
        room: has_room,
    };
    let (settle, settling) = settle::spawn(
        config,
        registry.clone(),
        publisher.clone(),
        acker.clone(),
        after,
        give_up.clone(),
    )?;
    let identity = Identity::new(Duration::from_secs(config.rescue.lease_s));
    let (recorder, recording) = Recorder::spawn(config)?;
    let common = common(
        config,
        services,
        recorder,
        registry,
        acker.clone(),
        settle,
        identity.clone(),
    );
    let (queues, dispatchers) = spawn_dispatchers(config, &common, &stop)?;
    let registered = Gate::default();
    let beating = CancellationToken::new();
    let vitals = Vitals {
        registry: common.registry.clone(),
        loads: common.loads.clone(),
        tally: tally.clone(),
    };
    let heart = spawn_heart(
        config,
        vitals,
        &identity,
        registered.clone(),
        beating.clone(),
        &stop,
    )?;
    let drain = Drain::new(Watermarks::new(&config.worker), tally, stop.clone());
    let outcome = drain.outcome();
    let (wires, on_hold) = wires(&common, &queues, room, drain);
    let control = control::spawn(config, &common, wires, registered.clone(), beating.clone())?;
    let (link, consuming) = watch::channel(LinkState::Down);
    let health = Health {
        lease: identity.clone(),
        registered: registered.clone(),
        consuming,
        publishing: publisher.link(),
    };
    let (server_handle, http_addr) = http::serve(config.worker.http_listen, health)?;

    let close = CancellationToken::new();
    let consumer = Consuming {
        config: config.clone(),
        queues: queues.clone(),
        acker: acker.clone(),
        link,
        on_hold,
        stop: stop.clone(),
        close: close.clone(),
    };
    drop(publisher);
    let parts = Parts {
        stop,
        registered,
        consumer,
        queues,
        dispatchers,
        common,
        settling,
        recording,
        give_up,
        acker,
        close,
        beating,
        finish,
        publishing,
        sweeper,
        heart,
        control,
        server: server_handle,
        outcome,
    };
    let done = tokio::spawn(parts.run(config.shutdown_grace()));
    Ok(Running { http_addr, done })
}

/// What the control thread has in its hands, and what tells the consumer which queues are on hold.
fn wires(
    common: &Common,
    queues: &[(Queue, Sender<Event>)],
    room: Receiver<()>,
    drain: Drain,
) -> (Wires, watch::Receiver<HashSet<Queue>>) {
    let (on_hold, held) = watch::channel(HashSet::new());
    let doors = Doors {
        queues: queues.to_vec(),
        loads: common.loads.clone(),
    };
    let wires = Wires {
        doors,
        on_hold,
        room,
        drain,
    };
    (wires, held)
}

fn common(
    config: &Config,
    services: Services,
    recorder: Recorder,
    registry: Registry,
    acker: Acker,
    settle: Sender<settle::Ended>,
    identity: Identity,
) -> Common {
    Common {
        services: Arc::new(services),
        registry,
        acker,
        settle,
        identity,
        board: Board::new((&config.output).into()),
        policies: Policies::default(),
        loads: Loads::default(),
        recorder,
        cancel: CancellationToken::new(),
        release: CancellationToken::new(),
        tasks: TaskTracker::new(),
        runtime: Handle::current(),
    }
}

/// Everything that runs, and what ends it.
struct Parts {
    stop: CancellationToken,
    registered: Gate,
    consumer: Consuming,
    queues: Vec<(Queue, Sender<Event>)>,
    dispatchers: Vec<JoinHandle<()>>,
    common: Common,
    settling: JoinHandle<()>,
    recording: JoinHandle<()>,
    give_up: CancellationToken,
    acker: Acker,
    close: CancellationToken,
    beating: CancellationToken,
    finish: CancellationToken,
    publishing: tokio::task::JoinHandle<()>,
    sweeper: JoinHandle<()>,
    heart: JoinHandle<()>,
    control: JoinHandle<()>,
    server: actix_web::dev::ServerHandle,
    outcome: Arc<OnceLock<Then>>,
}

impl Parts {
    /// Works until `stop`, then ends everything in the order in which nothing is lost.
    async fn run(self, grace: Duration) -> Result<Ended, Failed> {
        let consumer = consume_when(self.registered, self.consumer).await;
        // Without a lease there is nothing to do but end; the cause has been logged.
        let failed = consumer.is_none() && !self.stop.is_cancelled();
        if failed {
            self.stop.cancel();
        }
        self.stop.cancelled().await;
        tracing::info!("stopping: no more tasks are taken, running ones may finish for {grace:?}");
        for (_, events) in self.queues {
            let _ended = events.send(Event::Stop);
        }
        for thread in self.dispatchers {
            threads::join(thread).await;
        }
        let services = Arc::clone(&self.common.services);
        finish_tasks(self.common, grace).await;
        // The settler ends when the last task has dropped its sender.
        settle_rest(self.settling, self.recording, &self.give_up).await;
        let _acked = tokio::time::timeout(Duration::from_secs(5), self.acker.flush()).await;
        self.close.cancel();
        if let Some(consumer) = consumer {
            let _closed = tokio::time::timeout(Duration::from_secs(5), consumer).await;
        }
        services.close().await;
        self.beating.cancel();
        self.finish.cancel();
        threads::end_within(Duration::from_secs(5), self.publishing).await;
        threads::join(self.sweeper).await;
        threads::join(self.heart).await;
        threads::join(self.control).await;
        self.server.stop(true).await;
        tracing::info!("stopped");
        match self.outcome.get() {
            _ if failed => Err(Failed),
            Some(Then::Restart) => Ok(Ended::Restart),
            _ => Ok(Ended::Stopped),
        }
    }
}

/// Consumes as soon as the lease is held; `None` when it never will be.
async fn consume_when(
    registered: Gate,
    consumer: Consuming,
) -> Option<tokio::task::JoinHandle<()>> {
    let open = tokio::task::spawn_blocking(move || registered.wait()).await;
    matches!(open, Ok(true)).then(|| threads::spawn_task("consumer", consumer.run()))
}

type Dispatchers = (Vec<(Queue, Sender<Event>)>, Vec<JoinHandle<()>>);

fn spawn_dispatchers(
    config: &Config,
    common: &Common,
    stop: &CancellationToken,
) -> std::io::Result<Dispatchers> {
    let mut dispatchers = Dispatchers::default();
    for queue in Queue::ALL {
        if config.worker.queues.get(*queue).slots > 0 {
            let (events, thread) = dispatcher::spawn(config, *queue, common.clone(), stop.clone())?;
            dispatchers.0.push((*queue, events));
            dispatchers.1.push(thread);
        }
    }
    Ok(dispatchers)
}

/// Migrates first: a worker may well be started before any api-service.
fn spawn_heart(
    config: &Config,
    vitals: Vitals,
    identity: &Identity,
    registered: Gate,
    beating: CancellationToken,
    stop: &CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let (config, identity, stop) = (config.clone(), identity.clone(), stop.clone());
    let registry = vitals.registry.clone();
    threads::spawn("start", move || {
        let migrated = db::migrate_when_ready(&config.database, &stop);
        if let Err(error) = &migrated {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "the database schema could not be prepared"
            );
        }
        if !matches!(migrated, Ok(true)) {
            return registered.set(false);
        }
        let lost = move || registry.cancel_all();
        match heartbeat::spawn(&config, identity, vitals, lost, registered.clone(), beating) {
            Ok(heart) => {
                if heart.join().is_err() {
                    tracing::error!("the heartbeat panicked");
                }
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "no heartbeat");
                registered.set(false);
            }
        }
    })
}

/// Lets tasks finish; near the end of the grace they are asked to stop, and at its end given back.
async fn finish_tasks(common: Common, grace: Duration) {
    common.tasks.close();
    let asked = grace.mul_f64(0.8);
    if tokio::time::timeout(asked, common.tasks.wait())
        .await
        .is_ok()
    {
        return;
    }
    tracing::info!(
        "{} tasks still run and are asked to stop",
        common.tasks.len()
    );
    common.cancel.cancel();
    if tokio::time::timeout(grace.saturating_sub(asked), common.tasks.wait())
        .await
        .is_ok()
    {
        return;
    }
    tracing::warn!("{} tasks are given back unfinished", common.tasks.len());
    common.release.cancel();
    let _dropped = tokio::time::timeout(Duration::from_secs(2), common.tasks.wait()).await;
}

/// Both threads end when the last task has dropped its senders. Outcomes that can't be written now, because the database
/// is away, are left to the reaper.
async fn settle_rest(
    settling: JoinHandle<()>,
    recording: JoinHandle<()>,
    give_up: &CancellationToken,
) {
    let joined = threads::join(settling);
    tokio::pin!(joined);
    if tokio::time::timeout(LAST_SETTLEMENT, &mut joined)
        .await
        .is_err()
    {
        tracing::error!("the last outcomes could not be written; their tasks are rescued");
        give_up.cancel();
        joined.await;
    }
    threads::join(recording).await;
}
