//! The conservation law: waiting tasks against the broker's messages.

use super::{
    Check, Doctor, State,
    broker::{Link, LookError},
    conservation::Missing,
};
use crate::{
    queries::{doctor, outbox::RequeueLost, workers},
    sight::Sight,
};
use shared::{db::DbError, topology};
use std::time::{Duration, Instant};

pub(super) const WAITING: &str = "waiting_without_message";
pub(super) const DELAYED: &str = "delayed_without_message";
/// Between two counts, where the first finds something missing.
const AGAIN: Duration = Duration::from_secs(3);

impl Doctor<'_> {
    /// `lost`: lanes whose queues have just been made.
    pub(super) fn messages(&mut self, link: &Link, lost: &[String]) -> Result<(), LookError> {
        let mut missing = self.missing(link)?;
        if !missing.is_nothing() {
            std::thread::sleep(AGAIN);
            missing = missing.and(&self.missing(link)?);
        }
        let waiting = self.waiting(&missing, lost)?;
        self.checks.push(waiting);
        let delayed = self.delayed(&missing)?;
        self.checks.push(delayed);
        let sight = link.wait(Sight::of(&link.connection))?;
        let dead = sight.dead_letters();
        let check = if dead == 0 {
            Check::new("dead_letters", State::Ok, "none")
        } else {
            let says = format!(
                "{dead} messages are in {}: GET /api/v1/dead-letters says of what",
                topology::DEAD
            );
            Check::new("dead_letters", State::Note, says).count(dead.into())
        };
        self.checks.push(check);
        Ok(())
    }

    fn missing(&mut self, link: &Link) -> Result<Missing, LookError> {
        let before = link.wait(Sight::of(&link.connection))?;
        let lost_after = self.lost_after().as_secs_f64();
        let (rows, rooms) = self
            .session
            .run(|c| Ok((doctor::lanes(c, lost_after)?, workers::rooms(c)?)))?;
        let after = link.wait(Sight::of(&link.connection))?;
        let of = |sight| Missing::of(&rows, sight, &rooms);
        Ok(of(&before).and(&of(&after)))
    }

    fn waiting(&mut self, missing: &Missing, lost: &[String]) -> Result<Check, LookError> {
        let mut requeued = 0;
        if !lost.is_empty() {
            requeued += self.requeue(lost, Duration::ZERO)?;
        }
        let after = self.lost_after();
        let count = missing.waiting();
        if count == 0 && requeued == 0 {
            let says = format!(
                "no task waits for longer than {after:?} without a message, as far as counts can tell"
            );
            return Ok(Check::new(WAITING, State::Ok, says));
        }
        let lanes: Vec<String> = missing.lanes.keys().cloned().collect();
        let samples = self
            .session
            .run(|c| doctor::waiting(c, &lanes, after.as_secs_f64()))?;
        let says = format!(
            "{} tasks at least wait for a message that is gone, in {}",
            count.max(i64::try_from(requeued).unwrap_or(i64::MAX)),
            if lanes.is_empty() {
                lost.join(", ")
            } else {
                lanes.join(", ")
            }
        );
        let found = Check::new(WAITING, State::Finding, says)
            .count(count)
            .samples(samples)
            .remedy("see that an api-service runs: its reconciler publishes them again when their queue is empty")
            .fixable();
        if !self.options.fix {
            return Ok(found);
        }
        requeued += self.requeue(&lanes, after)?;
        Ok(found.repaired(format!("{requeued} messages are in the outbox"), 0))
    }

    fn delayed(&mut self, missing: &Missing) -> Result<Check, LookError> {
        if missing.delayed == 0 {
            let says = "the delay tiers hold a message for every task that waits in them";
            return Ok(Check::new(DELAYED, State::Ok, says));
        }
        let says = format!(
            "{} tasks at least wait for another attempt whose message is gone from the delay tiers",
            missing.delayed
        );
        let found = Check::new(DELAYED, State::Finding, says)
            .count(missing.delayed)
            .remedy("wait: they are published again when they are due and their queue is empty")
            .fixable();
        if !self.options.fix {
            return Ok(found);
        }
        let changed = self.repair(DELAYED, doctor::wait_here)?;
        let did = format!("{changed} tasks wait in the database instead");
        Ok(found.repaired(did, 0))
    }

    /// Publishes again what has waited in these lanes for so long; returns how many tasks.
    fn requeue(&mut self, lanes: &[String], age: Duration) -> Result<usize, DbError> {
        let begin = Instant::now();
        let relay = Duration::from_millis(self.config.outbox.relay_after_ms.into());
        self.repair(WAITING, |connection| {
            let requeue = RequeueLost {
                lanes: lanes.to_vec(),
                // What this has published again must not look lost to it, however long it takes.
                lost_after_seconds: (age + begin.elapsed()).as_secs_f64(),
                limit: doctor::BATCH,
                exchange: topology::TASKS,
                relay_seconds: relay.as_secs_f64(),
            };
            requeue.run(connection).map(|messages| messages.len())
        })
    }

    fn lost_after(&self) -> Duration {
        Duration::from_secs(self.config.rescue.lost_after_s.max(1).into())
    }
}
