//! The api-service process.

use anyhow::Context;
use api_service::{cli::KeyCommand, open_files, service};
use clap::{Parser, Subcommand};
use shared::{config::Config, db, signals, telemetry};
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
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config = Config::load()?;
    telemetry::init_log(&config.log)?;
    telemetry::log_panics_without_their_text();
    match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(&config),
        Command::Migrate => {
            db::migrate_when_ready(&config.database, &CancellationToken::new())?;
            Ok(())
        }
        Command::Key(command) => command.run(&config).context("the key command failed"),
    }
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
