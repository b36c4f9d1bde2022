//! The load generator: a closed loop at a number of keep-alive connections on a thread of its own.
//!
//! It shares the processors with what it measures, so it does little: raw TCP, one write and mostly one read a
//! request, `httparse` on the answer, latencies in a plain list. What must stay true: every answer's status is
//! counted; a request that got no answer is no acceptance, and its place in the count is taken by another.

mod client;
mod request;
mod tally;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

pub use request::{Body, DELAY_S, SLEEP_S, STREAM_LINES};
pub use tally::{Tally, percentile};

/// As many requests as there is time for.
pub const ENDLESS: u64 = u64::MAX >> 1;
/// Answers that are still under way at the end get so long.
const LATE: Duration = Duration::from_secs(30);

/// What to send, how, and until when.
#[derive(Debug, Clone)]
pub struct Plan {
    pub address: SocketAddr,
    /// The bearer's key; none for the echo server.
    pub key: Option<String>,
    pub body: Body,
    pub connections: usize,
    /// Acceptances after which it ends.
    pub requests: u64,
    /// Time after which it ends.
    pub time: Duration,
    /// The pause of each connection between an answer and its next request.
    pub pause: Duration,
    /// Note the task's id of each acceptance.
    pub keep_ids: bool,
}

impl Plan {
    /// Mails at full speed, for so long.
    pub fn mails(address: SocketAddr, key: &str, connections: usize, time: Duration) -> Self {
        Self {
            address,
            key: Some(key.to_owned()),
            body: Body::Mail,
            connections,
            requests: ENDLESS,
            time,
            pause: Duration::ZERO,
            keep_ids: false,
        }
    }
}

/// What the clients and the owner share.
#[derive(Debug)]
struct Shared {
    plan: Plan,
    until: Instant,
    /// Requests that may still be begun.
    tickets: AtomicI64,
    accepted: AtomicU64,
    stopped: AtomicBool,
}

impl Shared {
    fn take_ticket(&self) -> bool {
        let is_over = self.stopped.load(Ordering::Relaxed) || Instant::now() >= self.until;
        !is_over && self.tickets.fetch_sub(1, Ordering::Relaxed) > 0
    }

    fn give_back_ticket(&self) {
        self.tickets.fetch_add(1, Ordering::Relaxed);
    }
}

/// A running load. Dropping it stops it.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Tally>>>,
}

impl Load {
    pub fn start(plan: Plan) -> Result<Self> {
        let shared = Arc::new(Shared {
            until: Instant::now() + plan.time,
            tickets: AtomicI64::new(i64::try_from(plan.requests).unwrap_or(i64::MAX)),
            accepted: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            plan,
        });
        let working = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || work(&working))
            .context("starting the load's thread")?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Requests answered 202 so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Whether only time or [`Load::stop`] ends it.
    pub fn is_endless(&self) -> bool {
        self.shared.plan.requests == ENDLESS
    }

    /// Whether it has ended by itself.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Begins no more requests.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }

    /// Waits for the end and the last answers.
    pub async fn finish(mut self) -> Result<Tally> {
        let thread = self.thread.take().context("the load has ended before")?;
        tokio::task::spawn_blocking(move || thread.join())
            .await?
            .map_err(|_| anyhow!("the load's thread panicked"))?
    }

    /// The whole of a plan.
    pub async fn run(plan: Plan) -> Result<Tally> {
        Self::start(plan)?.finish().await
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

fn work(shared: &Arc<Shared>) -> Result<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tally = Rc::<std::cell::RefCell<Tally>>::default();
    let begin = Instant::now();
    let limit = shared.plan.time + LATE;
    let local = tokio::task::LocalSet::new();
    let all = local.run_until(async {
        let clients: Vec<_> = (0..shared.plan.connections)
            .map(|_| tokio::task::spawn_local(client::run(Arc::clone(shared), Rc::clone(&tally))))
            .collect();
        for client in clients {
            // A client that panicked has lost its request, which is then missed in the count.
            let _ended = client.await;
        }
    });
    let is_late = runtime.block_on(async { tokio::time::timeout(limit, all).await.is_err() });
    drop(local);
    let mut tally = tally.take();
    tally.elapsed = begin.elapsed();
    if is_late {
        tally.fail("requests without an answer at the end");
    }
    tally.latencies.sort_unstable();
    Ok(tally)
}
