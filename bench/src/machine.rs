//! What the figures were measured on: processor, kernel, disk, versions.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::load::percentile;
use crate::rig::Rig;

const PROBES: usize = 300;
/// A page of PostgreSQL's log, which is what a commit writes.
const PAGE: usize = 8192;
/// No disk is as fast: the folder is in memory, and commits cost nothing.
const TOO_FAST: Duration = Duration::from_micros(15);

/// A Markdown list.
pub async fn describe(rig: &Rig) -> Result<String> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let (p50, p99) = fdatasync(rig.stack.folder())?;
    let postgres = rig.database.text("SHOW server_version").await?;
    let overview: Value = rig.stack.rabbitmq.management().overview().await?;
    let version = |key: &str| overview[key].as_str().unwrap_or("unknown").to_owned();
    let warning = if p50 < TOO_FAST {
        " **(in memory: not a disk, so the figures flatter)**"
    } else {
        ""
    };
    Ok(format!(
        "- Machine: {cores} cores, {}, Linux {}, load {}\n\
         - Disk: fdatasync of 8 KiB p50 {:.2} ms, p99 {:.2} ms{warning}\n\
         - Warren {} ({} build), PostgreSQL {postgres}, RabbitMQ {}, Erlang {}\n",
        cpu_model(),
        line_of("/proc/sys/kernel/osrelease"),
        line_of("/proc/loadavg"),
        milliseconds(p50),
        milliseconds(p99),
        env!("CARGO_PKG_VERSION"),
        if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        version("rabbitmq_version"),
        version("erlang_version"),
    ))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn cpu_model() -> String {
    fs::read_to_string("/proc/cpuinfo")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(
            || "unknown processor".to_owned(),
            |(_, name)| name.trim().to_owned(),
        )
}

fn line_of(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// How long a write of one page takes until it is on disk: p50 and p99.
fn fdatasync(folder: &Path) -> Result<(Duration, Duration)> {
    let path = folder.join("fdatasync-probe");
    let mut file =
        File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    // Written once before, so that no block has to be allocated: PostgreSQL recycles its log likewise.
    file.write_all(&vec![0; PAGE * PROBES])?;
    file.sync_all()?;
    let mut file = fs::OpenOptions::new().write(true).open(&path)?;
    let mut times = Vec::with_capacity(PROBES);
    for _ in 0..PROBES {
        let begin = Instant::now();
        file.write_all(&[1; PAGE])?;
        file.sync_data()?;
        times.push(u32::try_from(begin.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    fs::remove_file(&path)?;
    times.sort_unstable();
    let at = |share| Duration::from_micros(percentile(&times, share).into());
    Ok((at(0.5), at(0.99)))
}
