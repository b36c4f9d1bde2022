//! `stack`: Warren and all it stands on, on this machine, for a command (`exec`) or to use (`run`).

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use testkit::stack;

#[derive(Parser)]
#[command(about = "Private PostgreSQL and RabbitMQ, and Warren on top of them")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Start PostgreSQL and RabbitMQ in a fresh folder, run CMD with the `TEST_*` variables set (database,
    /// AMQP, management), end both; exits as CMD does
    Exec {
        #[arg(trailing_var_arg = true, required = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Start Warren with PostgreSQL, RabbitMQ and an inbox, and stay until Ctrl-C; its data is kept
    Run {
        /// Where data, logs, `env` and the API key go
        #[arg(long, default_value = ".run")]
        folder: PathBuf,
    },
    /// Show the `stack run` on the folder; fails if there is none
    Status {
        #[arg(long, default_value = ".run")]
        folder: PathBuf,
    },
    /// End the `stack run` on the folder
    Stop {
        #[arg(long, default_value = ".run")]
        folder: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Task::Exec { command } => stack::exec::exec(&command).await,
        Task::Run { folder } => stack::run::run(&folder).await,
        Task::Status { folder } => stack::run::status(&folder),
        Task::Stop { folder } => stack::run::stop(&folder).await,
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("stack: {error:#}");
            ExitCode::FAILURE
        }
    }
}
