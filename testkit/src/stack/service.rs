//! One of Warren's own programs, or the inbox: a child process with a readiness URL, to be killed, frozen, restarted.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::http;
use crate::services::process::{Launch, Process, describe_exit};
use crate::services::procfs;

const READY_LIMIT: Duration = Duration::from_secs(60);
/// Above what a service gives running work (`service.shutdown_grace_s`, 25) and then needs to settle and close.
const STOP_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(15);

/// A running service, or one that has ended and can start again. Dropping it kills it.
#[derive(Debug)]
pub struct Service {
    process: Process,
    launch: Launch,
    url: String,
    ready_url: String,
}

impl Service {
    /// Starts the program without waiting for it; `ready_path` below `url` answers 200 once it is ready.
    pub(super) async fn spawn(launch: Launch, url: String, ready_path: &str) -> Result<Self> {
        let ready_url = format!("{url}{ready_path}");
        Ok(Self {
            process: Process::spawn(launch.clone()).await?,
            launch,
            url,
            ready_url,
        })
    }

    pub fn name(&self) -> &str {
        &self.launch.name
    }

    /// Where it serves HTTP: the API's address, or the listener of health and metrics of a worker.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Resident memory in bytes, 0 when it does not run.
    pub fn resident_bytes(&self) -> u64 {
        self.process.resident_bytes()
    }

    /// The most resident memory since its start, in bytes.
    pub fn peak_resident_bytes(&self) -> u64 {
        procfs::peak_resident_bytes(self.pid()).unwrap_or(0)
    }

    /// Processor time since its start.
    pub fn cpu_time(&self) -> Duration {
        // The kernel counts in hundredths of a second.
        Duration::from_millis(procfs::cpu_ticks(self.pid()).unwrap_or(0) * 10)
    }

    pub fn log_path(&self) -> PathBuf {
        self.launch.log_path()
    }

    pub fn log_tail(&self, lines: usize) -> String {
        self.process.log_tail(lines)
    }

    /// Sets a variable for the next start.
    pub fn set_env(&mut self, key: &str, value: &str) {
        self.launch.env.retain(|(name, _)| name != key);
        self.launch.env.push((key.into(), value.into()));
    }

    /// Takes back what [`Service::set_env`] set, from the next start on.
    pub fn unset_env(&mut self, key: &str) {
        self.launch.env.retain(|(name, _)| name != key);
    }

    pub(super) fn launch(&self) -> &Launch {
        &self.launch
    }

    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    /// SIGTERM, and SIGKILL if it has not ended after a minute; how it ended.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.process.stop(STOP_LIMIT).await
    }

    pub async fn kill9(&mut self) -> Result<ExitStatus> {
        self.process.kill9().await
    }

    /// SIGSTOP: its connections stay open and it does nothing.
    pub fn freeze(&self) {
        self.process.freeze();
    }

    pub fn thaw(&self) {
        self.process.thaw();
    }

    /// Starts it again and waits until it is ready.
    pub async fn start_again(&mut self) -> Result<()> {
        self.spawn_again().await?;
        self.wait_until_ready().await
    }

    /// Starts it again without waiting: with a server down it may not become ready.
    pub async fn spawn_again(&mut self) -> Result<()> {
        if self.is_running() {
            bail!(
                "{} still runs (pid {}): stop or kill it before starting it again",
                self.name(),
                self.pid()
            );
        }
        self.process = Process::spawn(self.launch.clone()).await?;
        Ok(())
    }

    pub async fn is_ready(&self) -> bool {
        http::answers_ok(&self.ready_url).await
    }

    /// What it says of itself at `/health`.
    pub async fn health(&self) -> Result<serde_json::Value> {
        http::json(&format!("{}/health", self.url)).await
    }

    /// A counter of its `/metrics`, all labels together; 0 while it has counted nothing. Not for the api-service, whose
    /// metrics want a key.
    pub async fn counter(&self, name: &str) -> Result<f64> {
        let text = http::text(&format!("{}/metrics", self.url)).await?;
        Ok(sum(&text, name))
    }

    pub async fn wait_until_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        while !self.is_ready().await {
            if let Some(exit) = self.exit_status() {
                bail!(
                    "{} {} before it was ready{}",
                    self.name(),
                    describe_exit(exit),
                    self.log_note()
                );
            }
            if start.elapsed() > READY_LIMIT {
                let (name, url) = (self.name(), &self.ready_url);
                bail!(
                    "{name} is not ready after {READY_LIMIT:?} (GET {url}){}",
                    self.log_note()
                );
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn log_note(&self) -> String {
        format!(
            ". The end of its log {}:\n{}",
            self.log_path().display(),
            self.log_tail(15)
        )
    }
}

/// All samples of a metric in Prometheus' text form, added up.
fn sum(text: &str, name: &str) -> f64 {
    let value = |line: &str| -> Option<f64> {
        let rest = line.strip_prefix(name)?;
        let is_it = rest.starts_with([' ', '{']);
        rest.rsplit(' ').next().filter(|_| is_it)?.parse().ok()
    };
    // Not `sum`, which makes -0 of nothing.
    text.lines()
        .filter_map(value)
        .fold(0.0, |sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_the_sum_of_its_samples() {
        let text = "# TYPE a_total counter\na_total{x=\"1 2\"} 3\na_total{x=\"2\"} 4\na_total_more 5\nb_total 6\n";
        let sums = ["a_total", "b_total", "c_total"].map(|name| format!("{}", sum(text, name)));
        assert_eq!(sums, ["7", "6", "0"]);
    }
}
