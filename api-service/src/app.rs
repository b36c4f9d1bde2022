//! The actix application: what its handlers share, and the two listeners it is served on.

mod edge;
mod endpoint;
mod serve;

pub use endpoint::Endpoint;
pub use serve::{Listening, ServeError, serve};

use crate::{
    auth::KeyRing, budget::Budgets, depths::Depths, endpoints, endpoints::health::Probe,
    files::Store, intake::Intake, suppressions::Suppressions, templates::Templates,
    waiters::Waiters, watcher::Watcher,
};
use actix_web::web::{self, ServiceConfig};
use metrics_exporter_prometheus::PrometheusHandle;
use shared::{
    broker::LinkState,
    config::{Config, ConfigError},
    db::Pool,
    kinds::AcceptDefaults,
    publisher::Publisher,
};
use std::{fmt, sync::Arc, time::Instant};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// What every handler can reach. Made once; shared by all workers.
pub struct AppState {
    pub config: Arc<Config>,
    pub defaults: AcceptDefaults,
    pub intake: Intake,
    pub pool: Pool,
    pub keys: KeyRing,
    pub templates: Templates,
    pub suppressions: Suppressions,
    /// None: `files.url` is empty.
    pub files: Option<Store>,
    pub watcher: Watcher,
    pub waiters: Waiters,
    /// Places for event streams.
    pub streams: Arc<Semaphore>,
    pub publisher: Publisher,
    /// What RabbitMQ says of its queues.
    pub depths: Depths,
    /// The publisher's connection to the broker.
    pub broker: watch::Receiver<LinkState>,
    pub metrics: PrometheusHandle,
    pub database: Probe,
    pub started: Instant,
    /// Set when the service begins to stop.
    pub stop: CancellationToken,
}

impl fmt::Debug for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppState").finish_non_exhaustive()
    }
}

/// Handles to what runs beside the listeners.
pub struct Parts {
    pub intake: Intake,
    pub budgets: Budgets,
    pub publisher: Publisher,
    pub depths: Depths,
    pub watcher: Watcher,
}

impl AppState {
    /// Opens the pool and starts the key ring; must be called in a tokio runtime.
    /// The error is a `mail.default_from` that is no address.
    pub fn start(
        config: Arc<Config>,
        parts: Parts,
        metrics: PrometheusHandle,
        stop: CancellationToken,
    ) -> Result<Self, ConfigError> {
        let Parts {
            intake,
            budgets,
            publisher,
            depths,
            watcher,
        } = parts;
        let pool = Pool::new(&config.database);
        let templates = Templates::spawn(pool.clone(), config.template_limits(), stop.clone());
        Ok(Self {
            defaults: config.accept_defaults(Arc::new(templates.clone()))?,
            templates,
            suppressions: Suppressions::spawn(pool.clone(), config.peppers()?, stop.clone()),
            files: Store::open(&config.files)?,
            keys: KeyRing::spawn(pool.clone(), budgets, stop.clone()),
            waiters: Waiters::new(watcher.clone(), config.http.max_waiting, stop.clone()),
            streams: Arc::new(Semaphore::new(
                config.http.max_streams.min(Semaphore::MAX_PERMITS),
            )),
            watcher,
            database: Probe::new(pool.clone()),
            started: Instant::now(),
            config,
            intake,
            pool,
            broker: publisher.link(),
            publisher,
            depths,
            metrics,
            stop,
        })
    }
}

/// The API's routes, as [`serve`] puts them behind its listener.
pub fn configure(state: web::Data<AppState>) -> impl Fn(&mut ServiceConfig) + Clone {
    move |app| {
        app.app_data(state.clone())
            .app_data(web::PayloadConfig::new(state.config.http.max_body_bytes))
            .configure(endpoints::configure);
    }
}

/// The routes of the internal listener: health and metrics, without a key.
pub fn configure_internal(state: web::Data<AppState>) -> impl Fn(&mut ServiceConfig) + Clone {
    move |app| {
        app.app_data(state.clone())
            .configure(endpoints::configure_internal);
    }
}
