//! The doctor's findings as a metric: every `rescue.doctor_s` one of the replicas, whichever holds an advisory lock, looks
//! at what is cheap to look at. It takes a twentieth of the time at most, however many tasks wait.

use super::{
    conservation::Missing,
    messages::{DELAYED, WAITING},
    rows::{self, RowCheck, Table},
};
use crate::{
    queries::{
        doctor::{self, LaneRow},
        workers::{self, Room},
    },
    reconciler::Seen,
};
use diesel::{Connection, PgConnection, QueryResult, connection::SimpleConnection};
use shared::{clock, config::Config, db::Session, gate::Gate, threads};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A statement that takes longer is ended, and nothing is known until the next look.
const LONGEST: &str = "SET LOCAL statement_timeout = '5s'";
/// The pause after a look is so many times what it took, or longer.
const PAUSES: u32 = 19;

pub(crate) fn spawn(
    config: &Config,
    seen: watch::Receiver<Seen>,
    ready: Gate,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let watch = Watch {
        session: Session::new(&config.database),
        checks: rows::live(config),
        config: config.clone(),
        seen,
        before: Missing::default(),
        told: BTreeMap::new(),
        kinds: BTreeSet::new(),
        clock_told: false,
        failed: false,
    };
    threads::spawn("doctor", move || {
        if watch.config.rescue.doctor_s > 0 && ready.wait() {
            watch.run(&stop);
        }
    })
}

struct Watch {
    session: Session,
    checks: Vec<RowCheck>,
    config: Config,
    seen: watch::Receiver<Seen>,
    /// By the look before this one.
    before: Missing,
    /// Breaches that the log knows of.
    told: BTreeMap<&'static str, i64>,
    /// Kinds that have a gauge.
    kinds: BTreeSet<String>,
    clock_told: bool,
    failed: bool,
}

/// What one look finds.
struct Look {
    counts: Vec<(String, i64)>,
    lanes: Vec<LaneRow>,
    rooms: HashMap<String, Room>,
    parked: Vec<(String, i64)>,
}

impl Watch {
    fn run(mut self, stop: &CancellationToken) {
        let every = Duration::from_secs(self.config.rescue.doctor_s);
        let mut pause = every;
        while threads::rest(stop, pause) {
            let begin = Instant::now();
            self.clock();
            self.look();
            pause = every.max(begin.elapsed() * PAUSES);
        }
    }

    fn clock(&mut self) {
        // That the database is away is said by those who can't do without it.
        let Ok(skew) = self.session.run(clock::skew) else {
            return;
        };
        metrics::gauge!("warren_clock_skew_seconds").set(skew.ahead);
        let is_off = skew.certain() > self.config.rescue.clock_skew_s;
        if is_off && !self.clock_told {
            tracing::warn!(
                clock.ahead_s = skew.ahead,
                "this machine's clock differs from the database's; see that NTP runs on both"
            );
        }
        self.clock_told = is_off;
    }

    fn look(&mut self) {
        let lost_after = f64::from(self.config.rescue.lost_after_s.max(1));
        let checks = &self.checks;
        match self
            .session
            .run(|connection| look(connection, checks, lost_after))
        {
            Ok(Some(look)) => {
                self.failed = false;
                self.publish(&look);
            }
            // Another replica looks; what this one knew is old.
            Ok(None) => {
                self.before = Missing::default();
                self.gauges(&BTreeMap::new());
                self.park(&[]);
            }
            Err(error) => {
                metrics::counter!("warren_doctor_failures_total").increment(1);
                if !self.failed {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the invariants could not be looked at"
                    );
                }
                self.failed = true;
            }
        }
    }

    fn publish(&mut self, look: &Look) {
        let missing = self.missing(look);
        // Counts of two looks: one alone may have met messages on their way.
        let certain = missing.and(&self.before);
        self.before = missing;
        let mut counts: BTreeMap<&'static str, i64> = self
            .checks
            .iter()
            .filter_map(|check| {
                let found = look.counts.iter().find(|(name, _)| name == check.name)?;
                Some((check.name, found.1))
            })
            .collect();
        counts.insert(WAITING, certain.waiting());
        counts.insert(DELAYED, certain.delayed);
        self.gauges(&counts);
        for (check, count) in counts {
            if count > 0 && self.told.get(check) != Some(&count) {
                tracing::warn!(
                    doctor.check = check,
                    doctor.count = count,
                    "an invariant does not hold; `api-service doctor` says of what, and the remedy"
                );
            }
            self.told.insert(check, count);
        }
        self.park(&look.parked);
    }

    /// Nothing, where the reconciler has not seen the queues of late.
    fn missing(&self, look: &Look) -> Missing {
        let fresh = Duration::from_secs(3 * self.config.rescue.reconcile_s.max(1));
        match &*self.seen.borrow() {
            Some((at, sight)) if at.elapsed() < fresh => {
                Missing::of(&look.lanes, sight, &look.rooms)
            }
            _ => Missing::default(),
        }
    }

    fn gauges(&self, counts: &BTreeMap<&'static str, i64>) {
        let names = self.checks.iter().map(|check| check.name);
        for name in names.chain([WAITING, DELAYED]) {
            let count = counts.get(name).copied().unwrap_or_default();
            metrics::gauge!("warren_conservation_breaches", "check" => name).set(gauge(count));
        }
    }

    fn park(&mut self, parked: &[(String, i64)]) {
        for kind in &self.kinds {
            if !parked.iter().any(|(other, _)| other == kind) {
                metrics::gauge!("warren_tasks_parked", "kind" => kind.clone()).set(0.0);
            }
        }
        for (kind, count) in parked {
            metrics::gauge!("warren_tasks_parked", "kind" => kind.clone()).set(gauge(*count));
        }
        self.kinds
            .extend(parked.iter().map(|(kind, _)| kind.clone()));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count for people")]
fn gauge(count: i64) -> f64 {
    count as f64
}

/// None: another replica looks.
fn look(
    connection: &mut PgConnection,
    checks: &[RowCheck],
    lost_after_s: f64,
) -> QueryResult<Option<Look>> {
    connection.transaction(|connection| {
        connection.batch_execute(LONGEST)?;
        if !doctor::is_on_duty(connection)? {
            return Ok(None);
        }
        let mut counts = doctor::counts(connection, checks, Table::Live)?;
        counts.extend(doctor::counts(connection, checks, Table::Outbox)?);
        Ok(Some(Look {
            counts,
            lanes: doctor::lanes(connection, lost_after_s)?,
            rooms: workers::rooms(connection)?,
            parked: doctor::parked(connection)?,
        }))
    })
}
