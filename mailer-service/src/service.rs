//! Puts the worker together, and takes it apart in the order in which nothing is lost: stop consuming, let
//! running tasks finish, give the rest back, settle, acknowledge, close.

use crate::{
    consumer::Consuming,
    control,
    dispatcher::{self, Common, Event},
    handlers::Services,
    heartbeat::{self, Identity},
    http::{self, Health},
    point::Recorder,
    progress::Board,
    registry::Registry,
    settle::{self, Acker},
    smtp::{Sender as MailSender, SetupError},
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
    net::SocketAddr,
    sync::{Arc, mpsc::Sender},
    thread::JoinHandle,
    time::Duration,
};
use tokio::{runtime::Handle, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Why the service can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the mail configuration is not usable")]
    Mail(#[from] SetupError),
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

/// A running worker.
pub struct Running {
    /// Where health and metrics are.
    pub http_addr: SocketAddr,
    done: tokio::task::JoinHandle<Result<(), Failed>>,
}

impl Running {
    /// Waits until the service has stopped.
    pub async fn wait(self) -> Result<(), Failed> {
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
    let mail = MailSender::new(&config.mail)?;
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
    let (settle, settling) = settle::spawn(
        config,
        registry.clone(),
        publisher.clone(),
        acker.clone(),
        give_up.clone(),
    )?;
    let identity = Identity::new(Duration::from_secs(config.rescue.lease_s));
    let (recorder, recording) = Recorder::spawn(config)?;
    let common = Common {
        services: Arc::new(Services { mail }),
        registry,
        acker: acker.clone(),
        settle,
        identity: identity.clone(),
        board: Board::default(),
        recorder,
        cancel: CancellationToken::new(),
        release: CancellationToken::new(),
        tasks: TaskTracker::new(),
        runtime: Handle::current(),
    };
    let (queues, dispatchers) = spawn_dispatchers(config, &common, &stop)?;
    let registered = Gate::default();
    let beating = CancellationToken::new();
    let heart = spawn_heart(
        config,
        &common,
        &identity,
        registered.clone(),
        beating.clone(),
        &stop,
    )?;
    let control = control::spawn(config, &common, registered.clone(), beating.clone())?;

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
        stop: stop.clone(),
        close: close.clone(),
    };
    drop(publisher);
    let grace = config.shutdown_grace();
    let done = tokio::spawn(async move {
        let consumer = consume_when(registered, consumer).await;
        // Without a lease there is nothing to do but end; the cause has been logged.
        let failed = consumer.is_none() && !stop.is_cancelled();
        if failed {
            stop.cancel();
        }
        stop.cancelled().await;
        tracing::info!("stopping: no more tasks are taken, running ones may finish for {grace:?}");
        for (_, events) in queues {
            let _ended = events.send(Event::Stop);
        }
        for thread in dispatchers {
            threads::join(thread).await;
        }
        let services = Arc::clone(&common.services);
        finish_tasks(common, grace).await;
        settle_rest(settling, recording, &give_up).await;
        let _acked = tokio::time::timeout(Duration::from_secs(5), acker.flush()).await;
        close.cancel();
        if let Some(consumer) = consumer {
            let _closed = tokio::time::timeout(Duration::from_secs(5), consumer).await;
        }
        services.mail.close().await;
        beating.cancel();
        finish.cancel();
        threads::end_within(Duration::from_secs(5), publishing).await;
        threads::join(sweeper).await;
        threads::join(heart).await;
        threads::join(control).await;
        server_handle.stop(true).await;
        tracing::info!("stopped");
        if failed { Err(Failed) } else { Ok(()) }
    });
    Ok(Running { http_addr, done })
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
    common: &Common,
    identity: &Identity,
    registered: Gate,
    beating: CancellationToken,
    stop: &CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let (config, identity, stop) = (config.clone(), identity.clone(), stop.clone());
    let registry = common.registry.clone();
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
        match heartbeat::spawn(&config, identity, lost, registered.clone(), beating) {
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
