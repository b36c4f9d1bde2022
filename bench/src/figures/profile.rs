//! A profile of the hottest paths, by Linux perf where it is installed.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use tokio::process::Command;

use super::accept::queue;
use super::{Bench, CONNECTIONS};
use crate::load::Body;

/// Lines of each table that are shown.
const LINES: usize = 40;
const WIDTH: usize = 120;
/// Samples a second.
const FREQUENCY: &str = "1999";
/// Enough for the worker to be busy while it is watched.
const MAILS: u64 = 50_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profiled {
    /// The api-service while accepting at 64 connections
    Accept,
    /// The mailer-service while draining mails
    Drain,
}

/// perf's report of the process under its load, as a Markdown section.
pub async fn run(bench: &mut Bench, profiled: Profiled) -> Result<String> {
    let installed = Command::new("perf")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if !installed.await.is_ok_and(|status| status.success()) {
        bail!(
            "perf is not installed: apt-get install linux-perf (Debian), linux-tools-generic (Ubuntu)"
        );
    }
    let data = bench.rig.stack.folder().join("perf.data");
    match profiled {
        Profiled::Accept => {
            bench.rig.stop_mailers().await?;
            bench.rig.empty().await?;
            let perf = record(&data, bench.rig.stack.api.pid(), bench.time)?;
            let tally = Bench::warmed(bench.accepting(CONNECTIONS)?).await?;
            eprintln!("  accepted {:.0} requests/s under perf", tally.rate());
            perf.await?;
        }
        Profiled::Drain => {
            queue(bench, Body::Mail, MAILS).await?;
            bench.rig.start_mailer().await?;
            let perf = record(&data, bench.rig.mailer()?.pid(), bench.time)?;
            bench
                .rig
                .wait_for_mails(MAILS, Duration::from_secs(120))
                .await?;
            perf.await?;
        }
    }
    report(&data).await
}

fn record(
    data: &Path,
    pid: u32,
    time: Duration,
) -> Result<impl Future<Output = Result<()>> + use<>> {
    let mut perf = Command::new("perf")
        .args(["record", "--quiet", "--freq", FREQUENCY, "--pid"])
        .arg(pid.to_string())
        .arg("--output")
        .arg(data)
        .args(["--", "sleep", &time.as_secs().to_string()])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start perf")?;
    Ok(async move {
        let status = perf.wait().await?;
        if !status.success() {
            bail!("perf record failed; kernel.perf_event_paranoid may have to be 1 or lower");
        }
        Ok(())
    })
}

/// Shares of the process's time by thread, by program or library, and by thread and function.
async fn report(data: &Path) -> Result<String> {
    let mut tables = Vec::new();
    for keys in ["comm", "dso", "comm,symbol"] {
        tables.push(sorted(data, keys).await?);
    }
    Ok(format!("```\n{}\n```", tables.join("\n\n")))
}

async fn sorted(data: &Path, keys: &str) -> Result<String> {
    let output = Command::new("perf")
        .args([
            "report",
            "--stdio",
            "--no-children",
            "--percent-limit",
            "0.4",
        ])
        .args(["--sort", keys, "--input"])
        .arg(data)
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot run perf report")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| line.chars().take(WIDTH).collect::<String>());
    let lines: Vec<String> = lines.map(|line| line.trim_end().to_owned()).collect();
    Ok(lines[..lines.len().min(LINES)].join("\n"))
}
