//! The orderly end of the worker: stop consuming, let running tasks finish, give the rest back, settle, acknowledge,
//! close.

use super::{Ended, Failed};
use crate::{
    consumer::Consuming,
    control::Then,
    dispatcher::{Common, Event},
    settle::Acker,
};
use shared::{gate::Gate, task::Queue, threads};
use std::{
    sync::{Arc, OnceLock, mpsc::Sender},
    thread::JoinHandle,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// How long the last outcomes may wait for the database.
const LAST_SETTLEMENT: Duration = Duration::from_secs(10);

/// Everything that runs, and what ends it.
pub(super) struct Parts {
    pub(super) stop: CancellationToken,
    pub(super) registered: Gate,
    pub(super) consumer: Consuming,
    pub(super) queues: Vec<(Queue, Sender<Event>)>,
    pub(super) dispatchers: Vec<JoinHandle<()>>,
    pub(super) common: Common,
    pub(super) settling: JoinHandle<()>,
    pub(super) recording: JoinHandle<()>,
    /// What reads templates and suppressions.
    pub(super) reading: Vec<JoinHandle<()>>,
    pub(super) give_up: CancellationToken,
    pub(super) acker: Acker,
    pub(super) close: CancellationToken,
    pub(super) beating: CancellationToken,
    pub(super) finish: CancellationToken,
    pub(super) publishing: tokio::task::JoinHandle<()>,
    pub(super) sweeper: JoinHandle<()>,
    pub(super) heart: JoinHandle<()>,
    pub(super) control: JoinHandle<()>,
    pub(super) lines: JoinHandle<()>,
    pub(super) server: actix_web::dev::ServerHandle,
    pub(super) outcome: Arc<OnceLock<Then>>,
}

impl Parts {
    /// Works until `stop`, then ends everything in the order in which nothing is lost.
    pub(super) async fn run(self, grace: Duration) -> Result<Ended, Failed> {
        let consumer = consume_when(self.registered, self.consumer).await;
        // Without a lease there is nothing to do but end; the cause has been logged.
        let failed = consumer.is_none() && !self.stop.is_cancelled();
        if failed {
            self.stop.cancel();
        }
        self.stop.cancelled().await;
        tracing::info!("stopping: no more tasks are taken, running ones may finish for {grace:?}");
        for (_, events) in self.queues {
            let _ended = events.send(Event::Stop);
        }
        for thread in self.dispatchers {
            threads::join(thread).await;
        }
        let services = Arc::clone(&self.common.services);
        finish_tasks(self.common, grace).await;
        // The settler ends when the last task has dropped its sender.
        settle_rest(self.settling, self.recording, &self.give_up).await;
        let _acked = tokio::time::timeout(Duration::from_secs(5), self.acker.flush()).await;
        self.close.cancel();
        if let Some(consumer) = consumer {
            let _closed = tokio::time::timeout(Duration::from_secs(5), consumer).await;
        }
        services.close().await;
        // With the last handle the thread that reads templates ends.
        drop(services);
        for thread in self.reading {
            threads::join(thread).await;
        }
        self.beating.cancel();
        self.finish.cancel();
        threads::end_within(Duration::from_secs(5), self.publishing).await;
        threads::join(self.sweeper).await;
        threads::join(self.heart).await;
        threads::join(self.control).await;
        threads::join(self.lines).await;
        self.server.stop(true).await;
        tracing::info!("stopped");
        match self.outcome.get() {
            _ if failed => Err(Failed),
            Some(Then::Restart) => Ok(Ended::Restart),
            _ => Ok(Ended::Stopped),
        }
    }
}

/// Consumes as soon as the lease is held; `None` when it never will be.
async fn consume_when(
    registered: Gate,
    consumer: Consuming,
) -> Option<tokio::task::JoinHandle<()>> {
    let open = tokio::task::spawn_blocking(move || registered.wait()).await;
    matches!(open, Ok(true)).then(|| threads::spawn_task("consumer", consumer.run()))
}

/// Lets tasks finish; near the end of the grace they are asked to stop, and at its end given back.
async fn finish_tasks(common: Common, grace: Duration) {
    common.tasks.close();
    let asked = grace.mul_f64(0.8);
    if tokio::time::timeout(asked, common.tasks.wait())
        .await
        .is_ok()
    {
        return;
    }
    tracing::info!(
        "{} tasks still run and are asked to stop",
        common.tasks.len()
    );
    common.cancel.cancel();
    if tokio::time::timeout(grace.saturating_sub(asked), common.tasks.wait())
        .await
        .is_ok()
    {
        return;
    }
    tracing::warn!("{} tasks are given back unfinished", common.tasks.len());
    common.release.cancel();
    let _dropped = tokio::time::timeout(Duration::from_secs(2), common.tasks.wait()).await;
}

/// Both threads end when the last task has dropped its senders. Outcomes that can't be written now, because the database
/// is away, are left to the reaper.
async fn settle_rest(
    settling: JoinHandle<()>,
    recording: JoinHandle<()>,
    give_up: &CancellationToken,
) {
    let joined = threads::join(settling);
    tokio::pin!(joined);
    if tokio::time::timeout(LAST_SETTLEMENT, &mut joined)
        .await
        .is_err()
    {
        tracing::error!("the last outcomes could not be written; their tasks are rescued");
        give_up.cancel();
        joined.await;
    }
    threads::join(recording).await;
}
