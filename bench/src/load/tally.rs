//! What came back.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

/// The answers of one load, counted.
#[derive(Debug, Default)]
pub struct Tally {
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer: refused, reset, timed out.
    pub unanswered: u64,
    /// The first reason for one.
    pub reason: Option<String>,
    /// Microseconds from the first byte of a request to the last of its answer, wanted answers only; sorted.
    pub latencies: Vec<u32>,
    /// The tasks that were accepted, where the plan asks for them.
    pub ids: Vec<Uuid>,
    pub elapsed: Duration,
    /// When the first byte of the first request was sent.
    pub began: Option<SystemTime>,
}

impl Tally {
    pub(super) fn fail(&mut self, reason: impl std::fmt::Display) {
        self.unanswered += 1;
        self.reason.get_or_insert_with(|| reason.to_string());
    }

    /// Wanted answers.
    pub fn good(&self) -> usize {
        self.latencies.len()
    }

    #[expect(clippy::cast_precision_loss, reason = "a few million requests")]
    pub fn rate(&self) -> f64 {
        self.good() as f64 / self.elapsed.as_secs_f64()
    }

    /// Milliseconds that this share of the answers stayed below.
    pub fn milliseconds(&self, share: f64) -> f64 {
        f64::from(percentile(&self.latencies, share)) / 1000.0
    }

    /// Answers 500 to 599.
    pub fn server_errors(&self) -> u64 {
        self.statuses
            .iter()
            .filter(|(status, _)| **status >= 500)
            .map(|(_, count)| count)
            .sum()
    }

    /// What did not go as it should, if anything: `12 × 503, 4 unanswered (connection reset)`.
    pub fn trouble(&self, wanted: u16) -> Option<String> {
        let others = self
            .statuses
            .iter()
            .filter(|(status, _)| **status != wanted);
        let mut parts: Vec<String> = others
            .map(|(status, count)| format!("{count} × {status}"))
            .collect();
        if self.unanswered > 0 {
            let reason = self.reason.as_deref().unwrap_or("no reason");
            parts.push(format!("{} unanswered ({reason})", self.unanswered));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// The value that this share of the sorted values does not exceed; 0 of none.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index into a list of a few million"
)]
pub fn percentile(sorted: &[u32], share: f64) -> u32 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 0.5), 50);
        assert_eq!(percentile(&hundred, 0.99), 99);
        assert_eq!(percentile(&hundred, 1.0), 100);
        assert_eq!(percentile(&[7], 0.5), 7);
        assert_eq!(percentile(&[], 0.5), 0);
    }

    #[test]
    fn trouble_is_named() {
        let mut tally = Tally::default();
        tally.statuses.insert(202, 10);
        assert_eq!(tally.trouble(202), None);
        tally.statuses.insert(503, 2);
        tally.fail("reset");
        assert_eq!(
            tally.trouble(202).as_deref(),
            Some("2 × 503, 1 unanswered (reset)")
        );
        assert_eq!(tally.server_errors(), 2);
    }
}
