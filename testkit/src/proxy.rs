//! A TCP proxy with switches, to take a network away without touching either end.
//!
//! `cut` is a dead host: connections end and new ones are refused. `stall` is the worse one, a network that swallows:
//! connections are accepted and stay open, and nothing passes. `delay` keeps every byte back for a while.

mod pump;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to the bytes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass(Duration),
    Stall,
    Cut,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    open: AtomicU64,
    bytes: AtomicU64,
}

/// A listening proxy. Dropping it closes its connections and its port.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    listening: watch::Receiver<bool>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free loopback port and passes everything to `upstream` (`host:port`).
    pub async fn start(upstream: impl Into<String>) -> Result<Self> {
        Self::start_on((Ipv4Addr::LOCALHOST, 0).into(), upstream).await
    }

    pub async fn start_on(listen: SocketAddr, upstream: impl Into<String>) -> Result<Self> {
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("the proxy cannot listen on {listen}"))?;
        let address = listener.local_addr()?;
        let (mode, modes) = watch::channel(Mode::Pass(Duration::ZERO));
        let (listening_now, listening) = watch::channel(true);
        let counts = Arc::<Counts>::default();
        let server = Server {
            address,
            upstream: upstream.into(),
            modes,
            counts: counts.clone(),
        };
        let task = tokio::spawn(server.run(listener, listening_now));
        Ok(Self {
            address,
            mode,
            listening,
            counts,
            task,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection now and refuses new ones until another switch is thrown.
    pub async fn cut(&self) {
        self.switch(Mode::Cut).await;
    }

    /// Accepts and keeps connections, and passes nothing in either direction. What was under way stays and goes on
    /// when healed.
    pub async fn stall(&self) {
        self.switch(Mode::Stall).await;
    }

    /// Back to passing at once.
    pub async fn heal(&self) {
        self.switch(Mode::Pass(Duration::ZERO)).await;
    }

    /// Keeps every byte back for so long, in each direction; the throughput stays.
    pub async fn delay(&self, by: Duration) {
        self.switch(Mode::Pass(by)).await;
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.counts.open.load(Ordering::Relaxed)
    }

    /// Bytes passed so far, both directions together.
    pub fn bytes(&self) -> u64 {
        self.counts.bytes.load(Ordering::Relaxed)
    }

    /// Returns when the port does what the mode says: a test that cuts and then connects must be refused.
    async fn switch(&self, mode: Mode) {
        self.mode.send_replace(mode);
        let mut listening = self.listening.clone();
        let _ = listening
            .wait_for(|listening| *listening == (mode != Mode::Cut))
            .await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.mode.send_replace(Mode::Cut);
        self.task.abort();
    }
}

struct Server {
    address: SocketAddr,
    upstream: String,
    modes: watch::Receiver<Mode>,
    counts: Arc<Counts>,
}

impl Server {
    async fn run(self, first: TcpListener, listening: watch::Sender<bool>) {
        let mut listener = Some(first);
        let mut modes = self.modes.clone();
        loop {
            let mode = *modes.borrow_and_update();
            if mode == Mode::Cut {
                listener = None;
            } else if listener.is_none() {
                listener = self.listen_again().await;
            }
            listening.send_replace(listener.is_some());
            let Some(open) = &listener else {
                if modes.changed().await.is_err() {
                    return;
                }
                continue;
            };
            tokio::select! {
                changed = modes.changed() => if changed.is_err() { return },
                accepted = open.accept() => if let Ok((client, _)) = accepted { self.serve(client) },
            }
        }
    }

    /// The port is still ours in all likelihood; whoever has taken it meanwhile is waited for.
    async fn listen_again(&self) -> Option<TcpListener> {
        for _ in 0..200 {
            if let Ok(listener) = TcpListener::bind(self.address).await {
                return Some(listener);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tracing::error!("the proxy could not get its port {} back", self.address);
        None
    }

    fn serve(&self, client: TcpStream) {
        self.counts.accepted.fetch_add(1, Ordering::Relaxed);
        self.counts.open.fetch_add(1, Ordering::Relaxed);
        let (upstream, modes, counts) = (
            self.upstream.clone(),
            self.modes.clone(),
            self.counts.clone(),
        );
        tokio::spawn(async move {
            pump::connect_and_pass(client, &upstream, modes, &counts.bytes).await;
            counts.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

#[cfg(test)]
mod tests;
