//! Logs and metrics, set up the same way in every process.

use crate::config::{Log, LogFormat};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("log.level is not a valid filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("logging could not be set up")]
    Log(#[from] tracing_subscriber::util::TryInitError),
    #[error("metrics could not be set up")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    #[error("metrics could not be set up: there is a recorder already")]
    Recorder,
    #[error("metrics could not be set up")]
    Thread(#[from] std::io::Error),
}

/// Starts logging to standard error.
pub fn init_log(config: &Log) -> Result<(), TelemetryError> {
    // The AMQP library logs a lost connection in five ways, and the pool a lost database several times a second; the
    // loops that live on them say it once.
    let filter = EnvFilter::try_new(format!(
        "lapin=off,r2d2=off,actix_server=warn,{}",
        config.level
    ))?;
    let registry = tracing_subscriber::registry().with(filter);
    match config.format {
        LogFormat::Json => registry
            .with(
                fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_writer(std::io::stderr),
            )
            .try_init()?,
        LogFormat::Pretty => registry
            .with(fmt::layer().with_target(false).with_writer(std::io::stderr))
            .try_init()?,
    }
    Ok(())
}

/// From now on a panic is a log line that says where, and not what: its text may hold anything, personal data included.
pub fn log_panics_without_their_text() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        let thread = std::thread::current();
        tracing::error!(
            panic.location = location.as_deref().unwrap_or("unknown"),
            thread.name = thread.name().unwrap_or("unnamed"),
            "a panic; it ends one request or attempt, or the process if that can't do without the thread"
        );
    }));
}

const UPKEEP: Duration = Duration::from_secs(5);

/// Seconds; from half a millisecond, the time of an accept, to the longest time limit.
const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0,
];
const COUNTS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// The process's metrics; the handle renders the Prometheus text. Starts counting at the first call.
pub fn metrics() -> Result<&'static PrometheusHandle, TelemetryError> {
    static HANDLE: Mutex<Option<&'static PrometheusHandle>> = Mutex::new(None);
    let mut handle = HANDLE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = *handle {
        return Ok(handle);
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_batch_size".into()), &COUNTS)?
        .build_recorder();
    let fresh: &'static PrometheusHandle = Box::leak(Box::new(recorder.handle()));
    metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::Recorder)?;
    // Folds histograms; without it their samples would pile up until somebody scrapes.
    crate::threads::spawn("metrics", move || {
        loop {
            std::thread::sleep(UPKEEP);
            fresh.run_upkeep();
        }
    })?;
    *handle = Some(fresh);
    Ok(fresh)
}
