//! What is counted about a relay. The handles are taken once, so the recorder must be installed before.

use super::error::{Class, SendError};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use std::time::Duration;

pub(super) struct Metrics {
    sent: Counter,
    retry: Counter,
    failed: Counter,
    unknown: Counter,
    seconds: Histogram,
    /// Connections opened, failed attempts not included.
    pub(super) opened: Counter,
    /// Connections open now.
    pub(super) open: Gauge,
}

impl Metrics {
    pub(super) fn new(relay: &str) -> Self {
        let mails = |outcome: &'static str| counter!("warren_smtp_mails_total", "relay" => relay.to_owned(), "outcome" => outcome);
        Self {
            sent: mails("sent"),
            retry: mails("retry"),
            failed: mails("failed"),
            unknown: mails("unknown"),
            seconds: histogram!("warren_smtp_send_seconds", "relay" => relay.to_owned()),
            opened: counter!("warren_smtp_connections_total", "relay" => relay.to_owned()),
            open: gauge!("warren_smtp_connections_open", "relay" => relay.to_owned()),
        }
    }

    /// Counts one call of `send`, the wait for a connection included.
    pub(super) fn mail<T>(&self, outcome: &Result<T, SendError>, took: Duration) {
        let counter = match outcome.as_ref().map_err(|error| error.class) {
            Ok(_) => &self.sent,
            Err(Class::Retry | Class::RetryAfter(_)) => &self.retry,
            Err(Class::Fail) => &self.failed,
            Err(Class::NotBegun | Class::PutOff(_)) => return,
            Err(Class::UnknownOutcome) => &self.unknown,
        };
        counter.increment(1);
        self.seconds.record(took);
    }
}
