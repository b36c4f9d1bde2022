//! What a fault cost, and whether that is within what Warren promises.

/// The last mail must be there so soon after the recovery, in seconds.
const LONGEST_DELAY: f64 = 30.0;

pub const HEADER: [&str; 9] = [
    "fault",
    "202",
    "mails by task",
    "lost",
    "repeated (bound)",
    "last mail after recovery, s",
    "5xx",
    "rows",
    "",
];

pub const LEGEND: &str = "lost: answered 202 and no mail came, must be 0. repeated: mails beyond the first of a task; \
the bound is what the killed workers had begun and not settled, 0 for every other fault and for tasks that ask to be \
held. 5xx must be 0 unless the fault takes away the API or PostgreSQL itself. rows: all must be COMPLETED, or CANCELLED, \
without a mail, where tasks are cancelled.";

#[derive(Debug, Default)]
pub struct Verdict {
    pub title: String,
    pub accepted: usize,
    pub arrived: usize,
    pub lost: usize,
    pub repeated: u64,
    pub in_flight: u64,
    pub delay: Option<f64>,
    pub server_errors: u64,
    pub rows: Vec<(String, usize)>,
    /// What a row may be besides COMPLETED.
    pub may_be: Option<&'static str>,
    pub failures: Vec<String>,
    pub notes: Vec<String>,
}

impl Verdict {
    /// Nothing could be counted.
    pub fn hopeless(title: String, failure: String) -> Self {
        Self {
            title,
            failures: vec![failure],
            ..Self::default()
        }
    }

    pub fn is_good(&self) -> bool {
        self.failures.is_empty()
    }

    /// Compares what happened with what must be.
    pub fn judge(&mut self, may_err: bool, unrecorded: usize, unfenced: u64) {
        let late = self.delay.filter(|delay| *delay >= LONGEST_DELAY);
        let unfinished: usize = self
            .rows
            .iter()
            .filter(|(status, _)| status != "COMPLETED" && Some(status.as_str()) != self.may_be)
            .map(|(_, count)| count)
            .sum();
        let broken = [
            (self.accepted == 0).then(|| "nothing was accepted".to_owned()),
            (self.lost > 0).then(|| format!("{} accepted mails never arrived", self.lost)),
            (unrecorded > 0).then(|| format!("{unrecorded} accepted tasks have no row")),
            (self.repeated > self.in_flight).then(|| {
                format!(
                    "{} mails were repeated, more than the {} in flight",
                    self.repeated, self.in_flight
                )
            }),
            late.map(|delay| format!("the last mail came {delay:.1} s after the recovery")),
            (self.server_errors > 0 && !may_err)
                .then(|| format!("{} requests were answered 5xx", self.server_errors)),
            (unfinished > 0).then(|| format!("{unfinished} rows are not what they must be")),
            (unfenced > 0).then(|| format!("{unfenced} lost attempts settled all the same")),
        ];
        self.failures.extend(broken.into_iter().flatten());
    }

    pub fn summary(&self) -> String {
        if self.is_good() {
            self.cells()[1..8].join(" | ")
        } else {
            format!("FAILED: {}", self.failures.join("; "))
        }
    }

    pub fn cells(&self) -> Vec<String> {
        let rows: Vec<String> = self
            .rows
            .iter()
            .map(|(status, count)| format!("{count} {status}"))
            .collect();
        vec![
            self.title.clone(),
            self.accepted.to_string(),
            self.arrived.to_string(),
            self.lost.to_string(),
            format!("{} (≤ {})", self.repeated, self.in_flight),
            self.delay
                .map_or("–".to_owned(), |delay| format!("{delay:.1}")),
            self.server_errors.to_string(),
            rows.join(", "),
            if self.is_good() { "ok" } else { "FAILED" }.to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(change: impl FnOnce(&mut Verdict)) -> Vec<String> {
        let mut verdict = Verdict {
            accepted: 10,
            arrived: 10,
            delay: Some(1.0),
            rows: vec![("COMPLETED".into(), 10)],
            ..Verdict::default()
        };
        change(&mut verdict);
        verdict.judge(false, 0, 0);
        verdict.failures
    }

    #[test]
    fn a_kept_promise_is_good() {
        assert!(judged(|_| ()).is_empty());
        assert!(judged(|verdict| (verdict.repeated, verdict.in_flight) = (3, 3)).is_empty());
    }

    #[test]
    fn each_broken_promise_is_named() {
        assert_eq!(judged(|verdict| verdict.lost = 1).len(), 1);
        assert_eq!(judged(|verdict| verdict.repeated = 1).len(), 1);
        assert_eq!(judged(|verdict| verdict.delay = Some(30.0)).len(), 1);
        assert_eq!(judged(|verdict| verdict.server_errors = 1).len(), 1);
        assert_eq!(
            judged(|verdict| verdict.rows.push(("FAILED".into(), 1))).len(),
            1
        );
        assert_eq!(judged(|verdict| verdict.accepted = 0).len(), 1);
    }

    #[test]
    fn tasks_may_be_cancelled_only_where_somebody_cancels() {
        let cancelled = |verdict: &mut Verdict| verdict.rows.push(("CANCELLED".into(), 1));
        assert_eq!(judged(cancelled).len(), 1);
        let storm = |verdict: &mut Verdict| {
            cancelled(verdict);
            verdict.may_be = Some("CANCELLED");
        };
        assert!(judged(storm).is_empty());
    }
}
