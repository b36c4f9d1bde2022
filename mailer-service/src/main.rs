//! The mailer-service process.

use anyhow::Context;
use clap::Parser;
use mailer_service::service;
use shared::{config::Config, signals, telemetry};
use tokio_util::sync::CancellationToken;

/// Warren's worker: takes tasks from RabbitMQ, sends mail, records the outcome.
///
/// Configured by the file named in WARREN_CONFIG and by WARREN__SECTION__KEY; see config.default.toml.
#[derive(Parser)]
#[command(version)]
struct Arguments {}

fn main() -> anyhow::Result<()> {
    let Arguments {} = Arguments::parse();
    let config = Config::load()?;
    telemetry::init_log(&config.log)?;
    telemetry::log_panics_without_their_text();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.worker.threads.max(1))
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        signals::cancel_on_termination(&stop)?;
        let running = service::start(&config, stop)?;
        tracing::info!(
            "mailer-service {} is up, health on http://{}",
            env!("CARGO_PKG_VERSION"),
            running.http_addr
        );
        Ok(running.wait().await?)
    })
}
