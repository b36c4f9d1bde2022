//! The node's own port mapper.
//!
//! A node without one starts a daemon that outlives it, and one that finds a foreign one silently joins it. So it is
//! started first, as a child like any other, on a port that was seen to be free.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::layout::Layout;
use crate::services::process::{Launch, Process};

pub(super) async fn start(layout: &Layout, folder: &Path, port: u16) -> Result<Process> {
    let mut launch = Launch::new("epmd", &layout.epmd, folder).args(["-port", &port.to_string()]);
    launch = launch.args(["-address", "127.0.0.1"]);
    launch.env_without = vec!["ERL_"];
    let mut epmd = Process::spawn(launch).await?;
    let start = Instant::now();
    while tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .is_err()
    {
        if !epmd.is_running() || start.elapsed() > Duration::from_secs(10) {
            bail!("epmd does not start on port {port}:\n{}", epmd.log_tail(5));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(epmd)
}
