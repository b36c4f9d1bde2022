//! The mailer-service process.

use anyhow::Context;
use clap::Parser;
use mailer_service::service::{self, Ended};
use shared::{config::Config, signals, telemetry};
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Warren's worker: takes tasks from RabbitMQ, sends mail, records the outcome.
///
/// Configured by the file named in WARREN_CONFIG and by WARREN__SECTION__KEY; see config.default.toml.
#[derive(Parser)]
#[command(version)]
struct Arguments {}

fn main() -> anyhow::Result<()> {
    let Arguments {} = Arguments::parse();
    // Before a deployment replaces the file: later its path is no longer known.
    let program = std::env::current_exe();
    let config = Config::load()?;
    telemetry::init_log(&config.log)?;
    telemetry::log_panics_without_their_text();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.worker.threads.max(1))
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        signals::cancel_on_termination(&stop)?;
        let running = service::start(&config, stop)?;
        tracing::info!(
            "mailer-service {} is up, health on http://{}",
            env!("CARGO_PKG_VERSION"),
            running.http_addr
        );
        anyhow::Ok(running.wait().await?)
    })?;
    if ended == Ended::Restart {
        // Whatever a handler left behind holds up nothing: this process is about to be another.
        runtime.shutdown_background();
        return Err(restart(program));
    }
    Ok(())
}

/// Replaces this process by a fresh one of what is at the program's path now, with the same arguments and id, so that no
/// supervisor is needed for it. Returns only when that can't be done.
fn restart(program: std::io::Result<PathBuf>) -> anyhow::Error {
    use std::os::unix::process::CommandExt;
    tracing::info!("a fresh process takes over");
    let program = match program {
        Ok(program) => program,
        Err(error) => return anyhow::Error::new(error).context("finding the program to restart"),
    };
    let error = std::process::Command::new(program)
        .args(std::env::args_os().skip(1))
        .exec();
    anyhow::Error::new(error).context("restarting")
}
