//! The api-service process.

use anyhow::Context;
use api_service::{
    cli::{DoctorCommand, KeyCommand},
    open_files, service,
};
use clap::{Parser, Subcommand};
use shared::{config::Config, db, signals, telemetry};
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

/// Warren's HTTP door: accepts tasks, commits them to PostgreSQL, publishes them to RabbitMQ.
///
/// Configured by the file named in WARREN_CONFIG and by WARREN__SECTION__KEY; see config.default.toml.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API (the default).
    Serve,
    /// Bring the database schema up to date and end.
    Migrate,
    /// Make, list and revoke API keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Check what must hold, in the database and in the broker, and say what does not.
    Doctor(DoctorCommand),
}

/// Of a doctor who could not look.
const UNCHECKED: u8 = 2;

fn main() -> ExitCode {
    let command = Arguments::parse().command.unwrap_or(Command::Serve);
    let failed = if matches!(command, Command::Doctor(_)) {
        ExitCode::from(UNCHECKED)
    } else {
        ExitCode::FAILURE
    };
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("Error: {error:?}");
            failed
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let config = Config::load()?;
    telemetry::init_log(&config.log)?;
    telemetry::log_panics_without_their_text();
    match command {
        Command::Serve => serve(&config)?,
        Command::Migrate => {
            db::migrate_when_ready(&config.database, &CancellationToken::new())?;
        }
        Command::Key(command) => command.run(&config).context("the key command failed")?,
        Command::Doctor(command) => return command.run(&config),
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(config: &Config) -> anyhow::Result<()> {
    open_files::raise(config.http.max_connections);
    // Requests are parsed on actix's own workers; this runtime is for publishing and housekeeping.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        signals::cancel_on_termination(&stop)?;
        let running = service::start(config, stop)?;
        tracing::info!(
            "api-service {} is up on http://{}",
            env!("CARGO_PKG_VERSION"),
            running.api_addr
        );
        Ok(running.wait().await?)
    })
}
