//! The connections to one relay: at most `connections` of them, waiters in order of arrival, the most
//! recently used first, so that the others can age and go.
//!
//! Every open connection is covered by a permit or lies idle, and never more lie idle than permits are
//! free, so the bound holds for connections, not only for users. A connection comes back only by
//! [`Lease::give_back`]: a future that is dropped half-way drops its connection and frees its permit.

use super::{
    connection::Connection,
    error::{Class, SendError, code},
    metrics::Metrics,
    route::Health,
    settings::Settings,
};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep_until, timeout_at},
};

/// How long the relay may take over QUIT.
const QUIT_LIMIT: Duration = Duration::from_secs(2);

/// After a refusal that only a person can mend, how long the relay is not asked again. Spares the
/// account from being locked for guessing, and the log a line for each mail.
const PAUSE: Duration = Duration::from_secs(30);

pub(super) struct Pool {
    pub(super) settings: Settings,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    permits: Arc<Semaphore>,
    /// In the order of their return.
    idle: Mutex<Vec<Idle>>,
    paused: Mutex<Option<(Instant, SendError)>>,
    reaping: AtomicBool,
    closed: AtomicBool,
}

struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

/// A connection for one mail.
pub(super) struct Lease {
    pub(super) connection: Box<Connection>,
    /// It has carried mails before.
    pub(super) reused: bool,
    pool: Arc<Pool>,
    permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            metrics: Metrics::new(&settings.name),
            health: Health::default(),
            permits: Arc::new(Semaphore::new(
                settings.connections.min(Semaphore::MAX_PERMITS),
            )),
            idle: Mutex::default(),
            paused: Mutex::default(),
            reaping: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            settings,
        })
    }

    /// Waits for a turn and takes an idle connection, or opens one.
    pub(super) async fn take(self: &Arc<Self>, deadline: Instant) -> Result<Lease, SendError> {
        let busy = |_| {
            SendError::new(
                Class::Retry,
                code::BUSY,
                "no connection to the relay became free in time",
            )
        };
        let permit = timeout_at(deadline, Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(busy)?;
        let Ok(permit) = permit else {
            return Err(SendError::new(
                Class::Retry,
                code::BUSY,
                "the mailer is stopping",
            ));
        };
        loop {
            let Some(idle) = lock(&self.idle).pop() else {
                // Boxed: connecting is rare, and its state large.
                return Box::pin(self.open(permit, deadline)).await;
            };
            if !idle.connection.wire.is_quiet() {
                continue;
            }
            if idle.since.elapsed() < self.settings.max_idle {
                return Ok(Lease {
                    connection: idle.connection,
                    reused: true,
                    pool: Arc::clone(self),
                    permit,
                });
            }
            // The reaper's next victim.
            tokio::spawn(idle.connection.quit(QUIT_LIMIT));
        }
    }

    async fn open(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> Result<Lease, SendError> {
        if let Some((until, error)) = &*lock(&self.paused)
            && Instant::now() < *until
        {
            return Err(error.again());
        }
        // Boxed, since it is large and rare, and every running mail has room for it in its future.
        let opening = Connection::open(&self.settings, self.metrics.open.clone(), deadline);
        let connection = Box::pin(opening)
            .await
            .inspect_err(|error| self.pause_after(error))?;
        self.metrics.opened.increment(1);
        Ok(Lease {
            connection: Box::new(connection),
            reused: false,
            pool: Arc::clone(self),
            permit,
        })
    }

    fn pause_after(&self, error: &SendError) {
        if !matches!(error.class, Class::RetryAfter(_)) {
            return;
        }
        let mut paused = lock(&self.paused);
        let now = Instant::now();
        if paused.as_ref().is_none_or(|(until, _)| *until <= now) {
            tracing::error!(
                smtp.relay = self.settings.name,
                smtp.code = error.code,
                smtp.reply = error.smtp_code,
                "the relay does not let us in, no mail leaves: {}",
                error.text
            );
        }
        *paused = Some((now + PAUSE, error.again()));
    }

    /// Keeps to this process's share of `connections_total` while there is a pool; `mailers` share them. Must be called in
    /// a tokio runtime.
    pub(super) fn share(self: &Arc<Self>, mut mailers: watch::Receiver<usize>) {
        let total = self.settings.connections_total;
        if total == 0 {
            return;
        }
        let (pool, permits) = (Arc::downgrade(self), Arc::clone(&self.permits));
        let connections = self.settings.connections;
        tokio::spawn(async move {
            // The permits of others' connections.
            let mut kept: Vec<OwnedSemaphorePermit> = Vec::new();
            loop {
                let share = (total / (*mailers.borrow_and_update()).max(1)).max(1);
                let wanted = connections.saturating_sub(share);
                kept.truncate(wanted);
                let more = async {
                    if kept.len() < wanted {
                        Arc::clone(&permits).acquire_owned().await.ok()
                    } else {
                        std::future::pending().await
                    }
                };
                tokio::select! {
                    permit = more => {
                        let (Some(permit), Some(pool)) = (permit, pool.upgrade()) else { return };
                        kept.push(permit);
                        pool.end_surplus();
                    }
                    changed = mailers.changed() => if changed.is_err() { return },
                }
            }
        });
    }

    /// Ends idle connections beyond what permits are free for.
    fn end_surplus(&self) {
        let mut idle = lock(&self.idle);
        while idle.len() > self.permits.available_permits() {
            let oldest = idle.remove(0);
            tokio::spawn(oldest.connection.quit(QUIT_LIMIT));
        }
    }

    /// Says QUIT on all idle connections and on every other one when it comes back.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.permits.close();
        let idle = std::mem::take(&mut *lock(&self.idle));
        futures_util::future::join_all(
            idle.into_iter()
                .map(|idle| idle.connection.quit(QUIT_LIMIT)),
        )
        .await;
    }

    /// Ends connections that have been idle too long, while there is a pool.
    fn start_reaper(self: &Arc<Self>) {
        if self.reaping.swap(true, Ordering::AcqRel) {
            return;
        }
        let pool = Arc::downgrade(self);
        let max_idle = self.settings.max_idle;
        let mut next = Instant::now() + max_idle;
        tokio::spawn(async move {
            loop {
                sleep_until(next).await;
                let Some(pool) = pool.upgrade() else { return };
                pool.reap();
                let oldest = lock(&pool.idle).first().map(|idle| idle.since);
                // At least a second, should the permits of the oldest be in use just now.
                next = (oldest.unwrap_or_else(Instant::now) + max_idle)
                    .max(Instant::now() + Duration::from_secs(1));
            }
        });
    }

    fn reap(&self) {
        let mut idle = lock(&self.idle);
        let aged = idle
            .iter()
            .take_while(|idle| idle.since.elapsed() >= self.settings.max_idle)
            .count();
        let Ok(permits) = Arc::clone(&self.permits)
            .try_acquire_many_owned(u32::try_from(aged).unwrap_or(u32::MAX))
        else {
            return;
        };
        let aged: Vec<_> = idle.drain(..aged).collect();
        drop(idle);
        tokio::spawn(async move {
            futures_util::future::join_all(
                aged.into_iter()
                    .map(|idle| idle.connection.quit(QUIT_LIMIT)),
            )
            .await;
            drop(permits);
        });
    }
}

impl Lease {
    /// Makes the connection free for the next mail, or ends it politely if it has done its share.
    pub(super) fn give_back(self) {
        let Self {
            connection,
            pool,
            permit,
            ..
        } = self;
        if connection.mails >= pool.settings.max_mails
            || pool.settings.max_idle.is_zero()
            || pool.closed.load(Ordering::Acquire)
        {
            tokio::spawn(async move {
                connection.quit(QUIT_LIMIT).await;
                drop(permit);
            });
            return;
        }
        pool.start_reaper();
        lock(&pool.idle).push(Idle {
            connection,
            since: Instant::now(),
        });
        // Only now, so that whoever gets the permit finds the connection.
        drop(permit);
    }

    /// Ends the transaction and then gives the connection back. The caller need not wait for it.
    pub(super) fn reset_and_give_back(mut self) {
        tokio::spawn(async move {
            if self
                .connection
                .reset(self.pool.settings.timeouts.command)
                .await
                .is_ok()
            {
                self.give_back();
            }
        });
    }

    /// A new connection under the same permit, for a reused one that had gone stale.
    pub(super) async fn renew(self, deadline: Instant) -> Result<Self, SendError> {
        let Self {
            connection,
            pool,
            permit,
            ..
        } = self;
        drop(connection);
        pool.open(permit, deadline).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
