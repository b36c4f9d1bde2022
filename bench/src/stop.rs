//! The wish to end, from the terminal or from another process.

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};

/// Returns, always with an error, when Ctrl-C or SIGTERM comes.
pub async fn requested<T>() -> Result<T> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => bail!("stopped by Ctrl-C"),
        _ = terminate.recv() => bail!("stopped by SIGTERM"),
    }
}
