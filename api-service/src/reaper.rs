//! Rescues the tasks of dead workers.
//!
//! A worker is dead when its heartbeat counter has stood still for the whole lease *while this reaper was
//! watching*. Nothing is compared with a clock: after an outage of the database, a frozen reaper or a
//! jump of the clock, the watch begins anew, so no living worker loses its tasks for what was not its fault.

use crate::queries::{rescue, workers};
use shared::{config::Config, db::Session, gate::Gate, publisher::Publisher, threads};
use std::{
    collections::HashMap,
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const PAUSE: Duration = Duration::from_secs(1);
/// A claim can still land under a worker just after it was declared dead; this sweep finds it.
pub(crate) const SWEEP: Duration = Duration::from_secs(20);
const BATCH: i64 = 500;

/// How long each worker's heartbeat counter has stood still before our eyes.
#[derive(Debug, Default)]
struct Watch(HashMap<Uuid, (i64, Duration)>);

impl Watch {
    /// Notes one look, `elapsed` after the one before; returns the workers that are dead by it.
    fn look(
        &mut self,
        alive: &[(Uuid, i64)],
        elapsed: Duration,
        lease: Duration,
    ) -> Vec<(Uuid, i64)> {
        // A long gap means that we were not watching; it proves nothing.
        let watched = elapsed.min(PAUSE * 2);
        let before = std::mem::take(&mut self.0);
        for (id, beats) in alive {
            let still = match before.get(id) {
                Some((then, still)) if then == beats => *still + watched,
                _ => Duration::ZERO,
            };
            self.0.insert(*id, (*beats, still));
        }
        self.0
            .iter()
            .filter(|(_, (_, still))| *still >= lease)
            .map(|(id, (beats, _))| (*id, *beats))
            .collect()
    }

    /// Forgets everything seen so far.
    fn restart(&mut self) {
        self.0.clear();
    }
}

pub(crate) fn spawn(
    config: &Config,
    publisher: Publisher,
    ready: Gate,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let reaper = Reaper {
        session: Session::new(&config.database),
        lease: Duration::from_secs(config.rescue.lease_s),
        patience: Duration::from_millis(config.outbox.relay_after_ms.into()),
        publisher,
        watch: Watch::default(),
    };
    threads::spawn("reaper", move || {
        if ready.wait() {
            reaper.run(&stop);
        }
    })
}

struct Reaper {
    session: Session,
    lease: Duration,
    patience: Duration,
    publisher: Publisher,
    watch: Watch,
}

impl Reaper {
    fn run(mut self, stop: &CancellationToken) {
        let mut looked = Instant::now();
        let mut swept = Instant::now();
        while threads::rest(stop, PAUSE) {
            let elapsed = looked.elapsed();
            looked = Instant::now();
            let deaths = match self.session.run(workers::alive) {
                Ok(alive) => self.watch.look(&alive, elapsed, self.lease),
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "the reaper can't see the workers"
                    );
                    self.watch.restart();
                    continue;
                }
            };
            let mut found = swept.elapsed() >= SWEEP;
            for (id, beats) in deaths {
                match self
                    .session
                    .run(|connection| workers::declare_lost(connection, id, beats))
                {
                    Ok(true) => {
                        metrics::counter!("warren_workers_lost_total").increment(1);
                        tracing::warn!(worker.id = %id, "a worker stopped responding; its tasks are rescued");
                        found = true;
                    }
                    Ok(false) => {}
                    Err(error) => tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a dead worker could not be marked"
                    ),
                }
            }
            if found {
                swept = Instant::now();
                self.rescue(stop);
            }
        }
    }

    fn rescue(&mut self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            match self
                .session
                .run(|connection| rescue::rescue(connection, BATCH, self.patience))
            {
                Ok((_, 0)) => return,
                Ok((messages, count)) => {
                    metrics::counter!("warren_tasks_rescued_total").increment(count as u64);
                    tracing::warn!("rescued {count} tasks of lost workers");
                    self.publisher.offer(messages);
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "tasks of lost workers wait for the next sweep"
                    );
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(15);
    const TICK: Duration = Duration::from_secs(1);

    #[test]
    fn a_heartbeat_that_stands_still_is_death() {
        let mut watch = Watch::default();
        let worker = Uuid::now_v7();
        for _ in 0..15 {
            assert!(watch.look(&[(worker, 7)], TICK, LEASE).is_empty());
        }
        assert_eq!(watch.look(&[(worker, 7)], TICK, LEASE), [(worker, 7)]);
    }

    #[test]
    fn a_beat_begins_the_watch_anew() {
        let mut watch = Watch::default();
        let worker = Uuid::now_v7();
        for beats in 0..100 {
            assert!(watch.look(&[(worker, beats / 5)], TICK, LEASE).is_empty());
        }
    }

    #[test]
    fn a_gap_in_our_own_watch_proves_nothing() {
        let mut watch = Watch::default();
        let worker = Uuid::now_v7();
        watch.look(&[(worker, 7)], TICK, LEASE);
        assert!(
            watch
                .look(&[(worker, 7)], Duration::from_secs(3600), LEASE)
                .is_empty()
        );
        watch.restart();
        assert!(watch.look(&[(worker, 7)], TICK, LEASE).is_empty());
    }
}
