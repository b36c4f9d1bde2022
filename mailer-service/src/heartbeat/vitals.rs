//! What a worker says of itself: how busy it is, what it runs, how much it has done.

use crate::{
    load::{self, Loads, tally::Tally},
    queries::workers::Report,
    registry::Registry,
};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::json;

/// Running attempts that are named.
const NAMED: usize = 50;

#[derive(Debug, Clone)]
pub struct Vitals {
    pub registry: Registry,
    pub loads: Loads,
    pub tally: Tally,
}

impl Vitals {
    pub fn report(&self, now: DateTime<Utc>) -> Report {
        let running: Vec<_> = self
            .registry
            .longest(NAMED)
            .into_iter()
            .map(|((task, attempt), since)| {
                let ago = TimeDelta::from_std(since.elapsed()).unwrap_or_default();
                let since = (now - ago).to_rfc3339_opts(SecondsFormat::Millis, true);
                json!({"task_id": task, "attempt": attempt, "since": since})
            })
            .collect();
        Report {
            load: self.loads.to_json(),
            running: running.into(),
            rss_bytes: load::resident_bytes().and_then(|bytes| i64::try_from(bytes).ok()),
            tasks_done: i64::try_from(self.tally.total()).unwrap_or(i64::MAX),
        }
    }
}
