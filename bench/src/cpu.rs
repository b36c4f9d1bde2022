//! Where the processors' time went during a measurement, in cores; what others took is what made it noisy.

use std::time::Instant;

use testkit::services::procfs;

use crate::rig::Rig;

/// Ticks a second, on every Linux.
const HERTZ: f64 = 100.0;

/// Ticks used so far.
#[derive(Debug)]
pub struct Meter {
    begin: Instant,
    parts: Vec<(&'static str, u64)>,
    busy: u64,
}

/// Cores used per part.
pub type Use = Vec<(&'static str, f64)>;

impl Meter {
    pub fn start(rig: &Rig, echo: Option<u32>) -> Self {
        Self {
            begin: Instant::now(),
            parts: parts(rig, echo),
            busy: busy(),
        }
    }

    /// What each part used since the start.
    pub fn stop(self, rig: &Rig, echo: Option<u32>) -> Use {
        let elapsed = self.begin.elapsed().as_secs_f64();
        let cores = |from: u64, to: u64| ticks(to.saturating_sub(from)) / HERTZ / elapsed;
        let mut used: Use = parts(rig, echo)
            .into_iter()
            .zip(&self.parts)
            .map(|((name, now), (_, before))| (name, cores(*before, now)))
            .collect();
        let known: f64 = used.iter().map(|(_, cores)| cores).sum();
        used.push(("others", (cores(self.busy, busy()) - known).max(0.0)));
        used
    }
}

#[expect(clippy::cast_precision_loss, reason = "ticks of a few hours")]
fn ticks(count: u64) -> f64 {
    count as f64
}

fn parts(rig: &Rig, echo: Option<u32>) -> Vec<(&'static str, u64)> {
    let stack = &rig.stack;
    let mailers = stack.mailers.iter().map(|mailer| tree(mailer.pid())).sum();
    vec![
        ("api", tree(stack.api.pid())),
        ("mailer", mailers),
        ("PostgreSQL", tree(stack.postgres.pid())),
        ("RabbitMQ", tree(stack.rabbitmq.pid())),
        ("sink", tree(stack.inbox.pid())),
        ("echo", echo.map_or(0, tree)),
        ("load", procfs::cpu_ticks(std::process::id()).unwrap_or(0)),
    ]
}

fn tree(pid: u32) -> u64 {
    procfs::descendants(pid)
        .into_iter()
        .chain([pid])
        .filter_map(procfs::cpu_ticks)
        .sum()
}

/// User, nice, system, interrupt and stolen time of all processors.
fn busy() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    let all: u64 = fields.iter().take(8).sum();
    // Idle and waiting for the disk.
    all - fields.iter().skip(3).take(2).sum::<u64>()
}
