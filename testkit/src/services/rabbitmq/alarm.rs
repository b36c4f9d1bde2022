//! The memory alarm, raised and ended at will through the node's own `rabbitmqctl`.
//!
//! While it is on, the broker reads nothing more from a connection that has published, and tells it so; consumers
//! go on.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use super::RabbitMq;

/// `rabbitmqctl` starts a VM of its own, which takes seconds on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
const ALLOWANCE: &str = "set_vm_memory_high_watermark";

impl RabbitMq {
    /// Allows the node no memory at all, so that its alarm stops every publisher.
    pub async fn block_publishers(&self) -> Result<()> {
        self.control(&[ALLOWANCE, "0"]).await
    }

    /// Allows it as much memory again as `rabbitmq.conf` does.
    pub async fn unblock_publishers(&self) -> Result<()> {
        self.control(&[ALLOWANCE, "absolute", "1GB"]).await
    }

    /// Runs `rabbitmqctl` beside the server's script, in the node's own environment.
    async fn control(&self, args: &[&str]) -> Result<()> {
        let mut launch = self.node.launch().clone();
        launch.program = launch.program.with_file_name("rabbitmqctl");
        launch.args = args.iter().map(Into::into).collect();
        let running = Command::from(launch.command()).kill_on_drop(true).output();
        let shown = args.join(" ");
        let output = tokio::time::timeout(LIMIT, running)
            .await
            .with_context(|| format!("rabbitmqctl {shown} did not end within {LIMIT:?}"))?
            .with_context(|| format!("cannot run {}", launch.program.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("rabbitmqctl {shown} failed: {}", said.trim());
        }
        Ok(())
    }
}
