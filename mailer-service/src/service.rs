//! Puts the worker together; `end` takes it apart.

mod end;

use crate::{
    consumer::Consuming,
    control::{self, Drain, Watermarks, Wires},
    dispatcher::{self, Common, Event},
    handlers::Services,
    heartbeat::{self, Identity, Vitals},
    http::{self, Health},
    load::{Loads, tally::Tally},
    pace::Pace,
    point::Recorder,
    policy::Policies,
    progress::Board,
    registry::Registry,
    settle::{self, Acker, After},
    setup::SetupError,
    suppressions::Suppressions,
    templates::Templates,
    wake::{self, Doors, Signal},
};
use end::Parts;
use shared::{
    broker::LinkState,
    config::{Config, ConfigError},
    db,
    gate::Gate,
    outbox::Sweeper,
    publisher::Publisher,
    task::Queue,
    telemetry::{self, TelemetryError},
    threads,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{Sender, channel},
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
    Config(#[from] ConfigError),
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error("a part of the service could not be started")]
    Io(#[from] std::io::Error),
}

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
    let (services, reading) = services(config)?;
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
    let (lines, signals) = channel();
    let after = After {
        tally: tally.clone(),
        lines: lines.clone(),
        suppressed: services.suppressions.filter(),
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
        (settle, lines),
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
    let heart = spawn_heart(config, vitals, &common, &registered, &beating, &stop)?;
    let drain = Drain::new(Watermarks::new(&config.worker), tally, stop.clone());
    let outcome = drain.outcome();
    let (wires, doors) = wires(&common, &queues, drain);
    let on_hold = doors.on_hold.clone();
    let lines = wake::spawn(config, &common, doors, signals, &registered, &stop)?;
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
        reading,
        give_up,
        acker,
        close,
        beating,
        finish,
        publishing,
        sweeper,
        heart,
        control,
        lines,
        server: server_handle,
        outcome,
    };
    let done = tokio::spawn(parts.run(config.shutdown_grace()));
    Ok(Running { http_addr, done })
}

/// With the threads that read for them.
fn services(config: &Config) -> Result<(Services, Vec<JoinHandle<()>>), StartError> {
    let (templates, reading) = Templates::spawn(config)?;
    let (suppressions, watching) = Suppressions::spawn(config, config.peppers()?)?;
    let (pace, pacing) = Pace::spawn(config)?;
    let services = Services::new(config, templates, suppressions, pace)?;
    Ok((services, vec![reading, watching, pacing]))
}

/// What the threads `control` and `lines` have in their hands.
fn wires(common: &Common, queues: &[(Queue, Sender<Event>)], drain: Drain) -> (Wires, Doors) {
    // All, until the pauses are known.
    let (on_hold, held) = watch::channel(Queue::ALL.iter().copied().collect());
    let wires = Wires {
        queues: queues.to_vec(),
        loads: common.loads.clone(),
        on_hold,
        drain,
    };
    let doors = Doors {
        queues: queues.to_vec(),
        loads: common.loads.clone(),
        on_hold: held,
    };
    (wires, doors)
}

fn common(
    config: &Config,
    services: Services,
    recorder: Recorder,
    registry: Registry,
    acker: Acker,
    (settle, lines): (Sender<settle::Ended>, Sender<Signal>),
    identity: Identity,
) -> Common {
    Common {
        services: Arc::new(services),
        registry,
        acker,
        settle,
        lines,
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
    common: &Common,
    registered: &Gate,
    beating: &CancellationToken,
    stop: &CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let (config, identity, stop) = (config.clone(), common.identity.clone(), stop.clone());
    let (registered, beating) = (registered.clone(), beating.clone());
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
