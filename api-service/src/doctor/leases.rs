//! `--watch`: whether the workers that count as alive are. As the reaper does, it watches their heartbeats itself, for as
//! long as a lease lasts; no clock is asked.

use super::{Check, Doctor, State};
use crate::queries::{rescue, workers};
use shared::db::DbError;
use std::{collections::HashSet, thread, time::Duration};
use uuid::Uuid;

const NAME: &str = "stale_leases";
const RESCUED_AT_ONCE: i64 = 500;

impl Doctor<'_> {
    pub(super) fn watch_workers(&mut self) -> Check {
        self.watch_or_error()
            .unwrap_or_else(|error| Check::unchecked(NAME, &error))
    }

    fn watch_or_error(&mut self) -> Result<Check, DbError> {
        let before: HashSet<(Uuid, i64)> = self.session.run(workers::alive)?.into_iter().collect();
        let lease = self.config.rescue.lease_s;
        if !before.is_empty() {
            thread::sleep(Duration::from_secs(lease));
        }
        let mut still = self.session.run(workers::alive)?;
        let alive = still.len();
        still.retain(|worker| before.contains(worker));
        if still.is_empty() {
            let says = format!("none; {alive} workers are alive");
            return Ok(Check::new(NAME, State::Ok, says));
        }
        let count = i64::try_from(still.len()).unwrap_or(i64::MAX);
        let says = format!("{count} workers count as alive and gave no sign for {lease} s");
        let found = Check::new(NAME, State::Finding, says)
            .count(count)
            .samples(still.iter().map(|(id, _)| id.to_string()).collect())
            .remedy("see that an api-service runs: its reaper declares them dead and rescues their tasks")
            .fixable();
        if !self.options.fix {
            return Ok(found);
        }
        let mut lost = 0;
        for (id, beats) in still {
            lost += self.repair(NAME, |c| {
                workers::declare_lost(c, id, beats).map(usize::from)
            })?;
        }
        let patience = Duration::from_millis(self.config.outbox.relay_after_ms.into());
        let rescued = self.repair(NAME, |connection| {
            rescue::rescue(connection, RESCUED_AT_ONCE, patience).map(|(_, count)| count)
        })?;
        let did = format!("declared {lost} dead and rescued {rescued} tasks");
        Ok(found.repaired(did, 0))
    }
}
