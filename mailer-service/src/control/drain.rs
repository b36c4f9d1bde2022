//! Draining: this process takes nothing new, finishes what it runs however long that takes, and then stays, ends, or
//! begins anew. An operator asks for it, or the process itself when it has done enough or grown too large.

use crate::load::{self, tally::Tally};
use rand::RngExt;
use shared::config::Worker;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What follows when nothing runs any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Stay,
    Exit,
    /// The process replaces itself by a fresh one.
    Restart,
}

impl Then {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stay => "stay",
            Self::Exit => "exit",
            Self::Restart => "restart",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Stay, Self::Exit, Self::Restart]
            .into_iter()
            .find(|then| then.as_str() == text)
    }
}

/// When a process has done enough; 0: never.
#[derive(Debug, Clone, Copy)]
pub struct Watermarks {
    pub tasks: u64,
    pub rss_bytes: u64,
}

impl Watermarks {
    /// Up to a tenth more tasks, so that workers started together do not all restart together.
    pub fn new(config: &Worker) -> Self {
        let extra = rand::rng().random_range(0..=config.max_tasks / 10);
        Self {
            tasks: config.max_tasks + extra,
            rss_bytes: config.max_rss_mb * 1024 * 1024,
        }
    }

    /// Why the process should begin anew.
    fn reached(&self, done: u64, rss_bytes: Option<u64>) -> Option<&'static str> {
        if self.tasks > 0 && done >= self.tasks {
            return Some("worker.max_tasks");
        }
        let is_large = rss_bytes.is_some_and(|bytes| bytes >= self.rss_bytes);
        (self.rss_bytes > 0 && is_large).then_some("worker.max_rss_mb")
    }
}

/// The drain of this process.
#[derive(Debug)]
pub struct Drain {
    watermarks: Watermarks,
    tally: Tally,
    /// What is in force, and the worker's id under which that stands in the database.
    now: Option<(Then, Uuid)>,
    /// What the process ends as.
    outcome: Arc<OnceLock<Then>>,
    stop: CancellationToken,
}

impl Drain {
    /// `stop` ends the service when its drain says so.
    pub fn new(watermarks: Watermarks, tally: Tally, stop: CancellationToken) -> Self {
        Self {
            watermarks,
            tally,
            now: None,
            outcome: Arc::default(),
            stop,
        }
    }

    pub fn outcome(&self) -> Arc<OnceLock<Then>> {
        Arc::clone(&self.outcome)
    }

    pub fn is_on(&self) -> bool {
        self.now.is_some()
    }

    /// Takes up what the database says; returns what it should say instead.
    pub fn look(&mut self, worker: Uuid, asked: Option<Then>) -> Option<Then> {
        if let Some(then) = asked {
            if self.now.map(|(now, _)| now) != Some(then) {
                tracing::info!("draining: nothing new is begun; then: {}", then.as_str());
            }
            self.now = Some((then, worker));
            return None;
        }
        match self.now {
            // It was lost and goes on under a new id; what was asked of it still holds.
            Some((then, before)) if before != worker => Some(then),
            // Called off, unless the reason still holds.
            Some(_) | None => {
                let reason = self
                    .watermarks
                    .reached(self.tally.total(), load::resident_bytes());
                if let Some(reason) = reason {
                    if self.now.is_none() {
                        tracing::info!("{reason} is reached: draining, then a fresh process");
                    }
                    self.now = Some((Then::Restart, worker));
                    return Some(Then::Restart);
                }
                if self.now.take().is_some() {
                    tracing::info!("the drain was called off");
                }
                None
            }
        }
    }

    /// What [`Drain::look`] returned is in the database, under this id.
    pub fn noted(&mut self, then: Then, worker: Uuid) {
        self.now = Some((then, worker));
    }

    /// Ends the service if it is drained and not to stay.
    pub fn end_if(&self, is_idle: bool) {
        let Some((then @ (Then::Exit | Then::Restart), _)) = self.now else {
            return;
        };
        if is_idle && !self.stop.is_cancelled() {
            let _first_counts = self.outcome.set(then);
            self.stop.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn drain(tasks: u64) -> Drain {
        let watermarks = Watermarks {
            tasks,
            rss_bytes: 0,
        };
        Drain::new(watermarks, Tally::default(), CancellationToken::new())
    }

    #[test]
    fn an_operator_drains_and_calls_off() {
        let (mut drain, worker) = (drain(0), Uuid::now_v7());
        assert_eq!(drain.look(worker, None), None);
        assert_eq!(drain.look(worker, Some(Then::Stay)), None);
        assert!(drain.is_on());
        drain.end_if(true);
        assert!(!drain.stop.is_cancelled());
        drain.look(worker, None);
        assert!(!drain.is_on());
        drain.look(worker, Some(Then::Exit));
        drain.end_if(false);
        assert!(!drain.stop.is_cancelled());
        drain.end_if(true);
        assert!(drain.stop.is_cancelled());
        assert_eq!(drain.outcome.get(), Some(&Then::Exit));
    }

    #[test]
    fn a_drain_outlives_the_worker_s_id() {
        let mut drain = drain(0);
        drain.look(Uuid::now_v7(), Some(Then::Exit));
        let fresh = Uuid::now_v7();
        // Until it is noted it stands nowhere, and must not be taken for called off.
        assert_eq!(drain.look(fresh, None), Some(Then::Exit));
        assert_eq!(drain.look(fresh, None), Some(Then::Exit));
        drain.noted(Then::Exit, fresh);
        assert_eq!(drain.look(fresh, Some(Then::Exit)), None);
        assert!(drain.is_on());
        assert_eq!(drain.look(fresh, None), None);
        assert!(!drain.is_on());
    }

    #[test]
    fn enough_is_enough() {
        let (mut drain, worker) = (drain(1), Uuid::now_v7());
        assert_eq!(drain.look(worker, None), None);
        drain.tally.note(
            [crate::load::tally::Done {
                queue: shared::task::Queue::Work,
                lane: shared::task::Lane::Low,
                kind: "demo.noop",
                is_final: true,
                has_failed: false,
                took: Duration::ZERO,
            }]
            .into_iter(),
        );
        assert_eq!(drain.look(worker, None), Some(Then::Restart));
        let marks = Watermarks {
            tasks: 0,
            rss_bytes: 10,
        };
        assert_eq!(marks.reached(5, Some(9)), None);
        assert_eq!(marks.reached(5, Some(10)), Some("worker.max_rss_mb"));
    }
}
