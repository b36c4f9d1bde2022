//! `api-service doctor`: see [`crate::doctor`].

use crate::doctor::{self, Options};
use anyhow::{Context, Result};
use shared::config::Config;
use std::{
    io::{self, Write},
    process::ExitCode,
};

#[derive(Debug, clap::Args)]
pub struct DoctorCommand {
    /// Repair what can be repaired; safe while services run. Each repair stands in the audit log.
    #[arg(long)]
    fix: bool,
    /// Watch the workers' heartbeats for as long as a lease lasts; with --fix, rescue the tasks of those
    /// that gave no sign.
    #[arg(long)]
    watch: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl DoctorCommand {
    /// Prints the report; the exit code is 0 (healthy), 1 (findings) or 2 (not everything could be checked).
    pub fn run(&self, config: &Config) -> Result<ExitCode> {
        let options = Options {
            fix: self.fix,
            watch: self.watch,
        };
        let report = doctor::examine(config, options);
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut out, &report).context("printing the report")?;
            writeln!(out)?;
        } else {
            write!(out, "{report}")?;
        }
        Ok(ExitCode::from(report.exit_code()))
    }
}
