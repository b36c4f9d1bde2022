//! `api-service doctor`: looks whether what must hold does hold, says what does not, and repairs it on request.
//!
//! The conservation law is its first concern: every live task has an outbox row, a message, a lease or a due time. What
//! RabbitMQ holds can't be listed without consuming it, so messages are counted, and the count of those that are gone is
//! the least that it can be.
//!
//! Every repair is safe beside running services: it is conditional, skips rows that somebody is at work on, and stands in
//! `audit_log`. A message too many claims nothing.

mod broker;
mod conservation;
mod leases;
mod messages;
mod report;
pub(crate) mod rows;
pub(crate) mod watch;

pub use report::{Check, Report, State, Verdict};

use crate::queries::{audit, doctor};
use diesel::{Connection, PgConnection, QueryResult};
use rows::{Repair, RowCheck};
use serde_json::json;
use shared::{
    clock,
    config::Config,
    db::{self, DbError, Session},
};

/// The action in `audit_log`.
const FIX: &str = "doctor.fix";

/// What is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Repair what can be repaired.
    pub fix: bool,
    /// Watch the workers' heartbeats for as long as a lease lasts.
    pub watch: bool,
}

/// Looks at everything. Blocks; not for an async thread.
pub fn examine(config: &Config, options: Options) -> Report {
    let mut doctor = Doctor {
        config,
        options,
        session: Session::new(&config.database),
        checks: Vec::new(),
    };
    doctor.examine();
    Report::new(doctor.checks)
}

struct Doctor<'a> {
    config: &'a Config,
    options: Options,
    session: Session,
    checks: Vec<Check>,
}

impl Doctor<'_> {
    fn examine(&mut self) {
        let has_database = self.database();
        if has_database {
            self.clock();
            for check in rows::live(self.config)
                .into_iter()
                .chain(rows::thorough(self.config))
            {
                let check = self.rows(&check);
                self.checks.push(check);
            }
            if self.options.watch {
                let check = self.watch_workers();
                self.checks.push(check);
            }
        }
        self.broker(has_database);
    }

    /// False: nothing can be asked of it.
    fn database(&mut self) -> bool {
        const NAME: &str = "database";
        let pending = self
            .session
            .run(|connection| Ok(db::pending_migrations(connection)));
        let pending = match pending.and_then(|pending| pending) {
            Ok(pending) => pending,
            Err(error) => {
                let check = Check::unchecked(NAME, &error)
                    .remedy("is database.url right, and the database running?");
                self.checks.push(check);
                return false;
            }
        };
        if pending.is_empty() {
            let says = "answers; its schema is this version's";
            self.checks.push(Check::new(NAME, State::Ok, says));
            return true;
        }
        let count = i64::try_from(pending.len()).unwrap_or(i64::MAX);
        let mut check = Check::new(
            NAME,
            State::Finding,
            format!("{count} migrations are missing, so nothing else in it is looked at"),
        )
        .count(count)
        .samples(pending)
        .remedy("run `api-service migrate`")
        .fixable();
        if self.options.fix {
            let migrated = self.session.run(|connection| Ok(db::migrate(connection)));
            check = match migrated.and_then(|migrated| migrated) {
                Ok(applied) => check.repaired(format!("applied {applied} migrations"), 0),
                Err(error) => Check::unchecked(NAME, &error),
            };
            // Migrating takes the time limit off the session.
            self.session = Session::new(&self.config.database);
        }
        let is_usable = check.state == State::Fixed;
        self.checks.push(check);
        is_usable
    }

    fn clock(&mut self) {
        const NAME: &str = "clock";
        let limit = self.config.rescue.clock_skew_s;
        let check = match self.session.run(clock::skew) {
            Ok(skew) => {
                let says = format!(
                    "this machine's clock is {:+.3} s from the database's, give or take {:.3} s",
                    skew.ahead, skew.give
                );
                if skew.certain() > limit {
                    let remedy = "see that NTP runs on both machines (limit: rescue.clock_skew_s)";
                    Check::new(NAME, State::Finding, says).remedy(remedy)
                } else {
                    Check::new(NAME, State::Ok, says)
                }
            }
            Err(error) => Check::unchecked(NAME, &error),
        };
        self.checks.push(check);
    }

    fn rows(&mut self, check: &RowCheck) -> Check {
        self.rows_or_error(check).unwrap_or_else(|error| {
            let remedy =
                "where it took too long, allow more: WARREN__DATABASE__STATEMENT_TIMEOUT_MS";
            Check::unchecked(check.name, &error).remedy(remedy)
        })
    }

    fn rows_or_error(&mut self, check: &RowCheck) -> Result<Check, DbError> {
        let count = self.session.run(|c| doctor::count(c, check))?;
        if count == 0 {
            return Ok(Check::new(check.name, State::Ok, "none"));
        }
        let samples = self.session.run(|c| doctor::samples(c, check))?;
        let many = if count == doctor::MANY {
            " or more"
        } else {
            ""
        };
        let says = format!("{count}{many}: {}", check.says);
        let mut found = Check::new(check.name, State::Finding, says)
            .count(count)
            .samples(samples)
            .remedy(check.remedy);
        let Some(repair) = check.repair else {
            return Ok(found);
        };
        found = found.fixable();
        if !self.options.fix {
            return Ok(found);
        }
        let config = self.config;
        let changed = self.repair(check.name, |connection| match repair {
            Repair::Set(assignments) => doctor::set(connection, check, assignments),
            Repair::Delete => doctor::delete(connection, check),
            Repair::By(work) => work(connection, config),
        })?;
        let left = self.session.run(|c| doctor::count(c, check))?;
        Ok(found.repaired(format!("{changed} rows put right"), left))
    }

    /// Runs a repair batch by batch until one is not full, each with its line in `audit_log`; returns how many rows it was.
    fn repair(
        &mut self,
        name: &'static str,
        mut batch: impl FnMut(&mut PgConnection) -> QueryResult<usize>,
    ) -> Result<usize, DbError> {
        let mut all = 0;
        loop {
            let changed = self.session.run(|connection| {
                connection.transaction(|connection| {
                    let changed = batch(connection)?;
                    if changed > 0 {
                        let details = json!({"check": name, "changed": changed});
                        audit::note_other(connection, audit::Actor::CommandLine, FIX, details)?;
                    }
                    Ok(changed)
                })
            })?;
            all += changed;
            // As time goes by there may always be a few more.
            if i64::try_from(changed).is_ok_and(|changed| changed < doctor::BATCH) {
                return Ok(all);
            }
        }
    }
}
