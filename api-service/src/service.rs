//! Puts the api-service together. It answers from the first moment: while the database is away requests
//! wait or get a clear 503, and while the broker is away they are accepted.

use crate::{
    accepted::Accepted,
    app::{self, AppState, Parts, ServeError},
    budget::Budgets,
    depths::Depths,
    doctor,
    intake::Intake,
    janitor, reaper, reconciler, relay, replayer, scheduler,
    watcher::Watcher,
};
use actix_web::web::Data;
use shared::{
    config::{Config, ConfigError},
    db,
    gate::Gate,
    outbox::Sweeper,
    publisher::Publisher,
    telemetry::{self, TelemetryError},
    threads,
};
use std::{net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Why the service can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("a part of the service could not be started")]
    Io(#[from] std::io::Error),
}

/// The service ended because it could not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the service could not go on; the log says why")]
pub struct Failed;

/// A running api-service.
#[derive(Debug)]
pub struct Running {
    pub api_addr: SocketAddr,
    /// Health and metrics without a key.
    pub internal_addr: SocketAddr,
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
    let metrics = telemetry::metrics()?;
    // Ends what requests depend on, after the last request.
    let finish = CancellationToken::new();
    let (fates, sweeper) = Sweeper::spawn(&config.database, finish.clone())?;
    let (publisher, publishing) = Publisher::spawn(
        &config.broker,
        "warren api publisher".into(),
        fates,
        finish.clone(),
    );
    let ready = Gate::default();
    let accepted = Accepted::default();
    let (intake, accepting) = Intake::spawn(
        config,
        publisher.clone(),
        accepted.clone(),
        ready.clone(),
        finish.clone(),
    )?;
    let (watcher, watching) = Watcher::spawn(config, ready.clone(), stop.clone())?;
    let (depths, questions) = Depths::channel();
    let (budgets, leasing) = Budgets::spawn(config, ready.clone(), finish.clone())?;
    let state = AppState::start(
        Arc::new(config.clone()),
        Parts {
            intake,
            budgets,
            publisher: publisher.clone(),
            depths,
            watcher,
        },
        metrics.clone(),
        stop.clone(),
    )?;
    let files = state.files.as_ref().map(|store| store.files().clone());
    let state = Data::new(state);
    let listening = app::serve(&state, stop.clone())?;
    let failed = CancellationToken::new();
    let (seen, queues_seen) = watch::channel(None);
    let loops = vec![
        migrate(config, ready.clone(), failed.clone(), stop.clone())?,
        relay::spawn(config, publisher.clone(), ready.clone(), stop.clone())?,
        scheduler::spawn(
            config,
            publisher.clone(),
            accepted,
            ready.clone(),
            stop.clone(),
        )?,
        reaper::spawn(config, publisher.clone(), ready.clone(), stop.clone())?,
        replayer::spawn(config, publisher.clone(), ready.clone(), stop.clone())?,
        janitor::spawn(config, files, ready.clone(), stop.clone())?,
        watching,
        doctor::watch::spawn(config, queues_seen, ready.clone(), stop.clone())?,
    ];
    let reconciling = reconciler::spawn(
        config,
        publisher.clone(),
        seen,
        questions,
        ready,
        stop.clone(),
    );
    drop(publisher);
    let running = (listening.api, listening.internal);
    let done = tokio::spawn(async move {
        stop.cancelled().await;
        tracing::info!("stopping: no more requests are taken");
        match listening.finished.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "the listeners did not stop in order"
            ),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "the listeners did not stop in order"
            ),
        }
        for thread in loops {
            threads::join(thread).await;
        }
        let _ended = reconciling.await;
        // The last handle to the intake goes with the state; what it has taken is committed first.
        drop(state);
        finish.cancel();
        threads::join(accepting).await;
        threads::join(leasing).await;
        threads::end_within(Duration::from_secs(5), publishing).await;
        threads::join(sweeper).await;
        tracing::info!("stopped");
        if failed.is_cancelled() {
            Err(Failed)
        } else {
            Ok(())
        }
    });
    Ok(Running {
        api_addr: running.0,
        internal_addr: running.1,
        done,
    })
}

fn migrate(
    config: &Config,
    ready: Gate,
    failed: CancellationToken,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let config = config.database.clone();
    threads::spawn("migrate", move || {
        match db::migrate_when_ready(&config, &stop) {
            Ok(done) => ready.set(done),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the database schema could not be prepared; the service stops"
                );
                ready.set(false);
                failed.cancel();
                stop.cancel();
            }
        }
    })
}
