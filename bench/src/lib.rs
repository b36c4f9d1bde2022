//! `bench`: what Warren reaches on this machine (`bench bench`, `make bench`), and what is left of its promises when
//! its parts are killed, frozen and cut off (`bench faults`, `make faults`).
//!
//! Both start a private stack of the real programs in a temporary folder and end it on every path. Everything is
//! loopback, bounded in count and time, and ends by itself.

pub mod cpu;
pub mod database;
pub mod echo;
pub mod faults;
pub mod figures;
pub mod load;
pub mod machine;
pub mod place;
pub mod rig;
pub mod sink;
pub mod stop;
pub mod table;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Measures Warren and breaks it, on a private stack.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Throughput, latency and memory beside a bare echo server, as a Markdown table
    Bench(figures::Arguments),
    /// Kill, freeze and cut every part under load; exits with 1 when a promise was broken
    Faults(faults::Arguments),
    /// The yardstick's server: answers each POST with its body until its input ends
    #[command(hide = true)]
    Echo {
        #[arg(long, default_value_t = 2)]
        workers: usize,
    },
}

/// The program.
pub fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Echo { workers } => echo::serve(workers).map(|()| true),
        Command::Bench(arguments) => block_on(figures::run(arguments)),
        Command::Faults(arguments) => block_on(faults::run(arguments)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until the end, or until Ctrl-C or SIGTERM, which drops the future and with it every process of the run.
fn block_on(work: impl Future<Output = Result<bool>>) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        tokio::select! {
            outcome = work => outcome,
            stopped = stop::requested() => stopped,
        }
    })
}
