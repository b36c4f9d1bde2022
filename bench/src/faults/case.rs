//! One fault on one stack: what scenarios are written in, and how the count is taken in the end.

mod wait;

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::verdict::Verdict;
use crate::load::{Body, ENDLESS, Load, Plan, Tally};
use crate::rig::{POLL, Rig};

/// Connections of a load that goes on during a fault, and the pause of each between two requests: about 300
/// requests a second, so that a long outage does not become a long drain.
const CLIENTS: usize = 16;
const PAUSE: Duration = Duration::from_millis(50);

/// SMTP dialogues that the struck mailer may have under way: its connections to the relay.
const DIALOGUES: u64 = 16;

pub struct Case<'a> {
    pub rig: &'a mut Rig,
    until: Instant,
    body: Body,
    load: Option<Load>,
    /// Tasks that were not asked for by a load.
    single: Vec<Uuid>,
    tallies: Vec<Tally>,
    recovered: Option<DateTime<Utc>>,
    in_flight: u64,
    may_err: bool,
    may_cancel: bool,
    most_attempts: Option<u64>,
    failures: Vec<String>,
    notes: Vec<String>,
}

impl<'a> Case<'a> {
    pub fn new(rig: &'a mut Rig, limit: Duration) -> Self {
        Self {
            rig,
            until: Instant::now() + limit,
            body: Body::Mail,
            load: None,
            single: Vec::new(),
            tallies: Vec::new(),
            recovered: None,
            in_flight: 0,
            may_err: false,
            may_cancel: false,
            most_attempts: None,
            failures: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub fn fail(&mut self, failure: String) {
        self.failures.push(failure);
    }

    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// The mails from now on ask to be held when their worker dies.
    pub fn hold(&mut self) {
        self.body = Body::HeldMail;
    }

    /// Has one task accepted.
    pub async fn accept(&mut self, task: &Value) -> Result<()> {
        let task = self.rig.post("/tasks", task).await?;
        let id = task["id"].as_str().context("a task without an id")?;
        self.single.push(id.parse()?);
        Ok(())
    }

    /// Has so many mails accepted and confirmed by the broker while no mailer runs.
    pub async fn queue_mails(&mut self, count: u64) -> Result<()> {
        self.rig.stop_mailers().await?;
        self.start_load(count, Duration::ZERO)?;
        self.end_load().await?;
        self.rig.wait_until_published().await?;
        Ok(())
    }

    /// Asks for mails at a moderate pace until [`Case::end_load`].
    pub fn start_steady_load(&mut self) -> Result<()> {
        self.start_load(ENDLESS, PAUSE)
    }

    /// Asks for so many mails, each connection pausing between two requests.
    pub fn start_load(&mut self, requests: u64, pause: Duration) -> Result<()> {
        let left = self.until.saturating_duration_since(Instant::now());
        self.load = Some(Load::start(Plan {
            body: self.body,
            requests,
            pause,
            keep_ids: true,
            ..Plan::mails(self.rig.api()?, &self.rig.key, CLIENTS, left)
        })?);
        Ok(())
    }

    pub async fn end_load(&mut self) -> Result<()> {
        if let Some(load) = self.load.take() {
            if load.is_endless() {
                load.stop();
            }
            self.tallies.push(load.finish().await?);
        }
        Ok(())
    }

    /// Whether the load still has requests to make.
    pub fn is_loading(&self) -> bool {
        self.load.as_ref().is_some_and(|load| !load.is_over())
    }

    /// How many mails may be with the sink without their success being on record, of a mailer that was just struck: those
    /// that are there, and those on the wire.
    pub async fn in_flight(&self) -> Result<u64> {
        // What it had sent to PostgreSQL when it was struck is still carried out.
        tokio::time::sleep(POLL * 10).await;
        let recorded = self.rig.database.completed().await?;
        let sent = self.rig.sink.count().await?;
        Ok(sent.saturating_sub(recorded) + DIALOGUES)
    }

    /// Notes what may be repeated.
    pub async fn note_in_flight(&mut self) -> Result<()> {
        self.in_flight += self.in_flight().await?;
        Ok(())
    }

    /// From now on the last mail's delay counts.
    pub fn recovered(&mut self) {
        self.recovered = Some(Utc::now());
    }

    /// The fault takes away what accepting needs.
    pub fn may_answer_errors(&mut self) {
        self.may_err = true;
    }

    /// Tasks are cancelled; one that is so must have sent no mail.
    pub fn may_cancel(&mut self) {
        self.may_cancel = true;
    }

    /// The fault costs no task more attempts than this: none is claimed and given back over and over.
    pub fn allow_attempts(&mut self, most: u64) {
        self.most_attempts = Some(most);
    }

    /// Waits for the last mail and the last row, at most until the limit, and counts.
    pub async fn conclude(mut self) -> Result<Verdict> {
        self.end_load().await?;
        let accepted: HashSet<Uuid> = self
            .tallies
            .iter()
            .flat_map(|tally| tally.ids.iter().copied())
            .chain(self.single.iter().copied())
            .collect();
        self.wait_for_the_last(&accepted).await?;
        self.check_attempts().await?;
        let arrivals = self.rig.sink.deliveries().await?;
        let statuses = self.rig.database.statuses().await?;
        let unfenced = self.rig.database.unfenced().await?;
        let is_cancelled = |id: &Uuid| {
            let status = statuses.get(id).map(String::as_str);
            self.may_cancel && status == Some("CANCELLED")
        };
        let sent = arrivals.keys().filter(|id| is_cancelled(id)).count();
        if sent > 0 {
            self.failures.push(format!(
                "{sent} mails were sent of tasks that are CANCELLED"
            ));
        }
        let last = arrivals.values().map(|arrival| arrival.first).max();
        let delay = match (last, self.recovered) {
            (Some(last), Some(recovered)) => Some((last - recovered).as_seconds_f64().max(0.0)),
            _ => None,
        };
        let mut verdict = Verdict {
            title: String::new(),
            accepted: accepted.len(),
            arrived: arrivals.len(),
            lost: accepted
                .iter()
                .filter(|id| !arrivals.contains_key(id) && !is_cancelled(id))
                .count(),
            repeated: arrivals.values().map(|arrival| arrival.count - 1).sum(),
            in_flight: self.in_flight,
            delay,
            server_errors: self.tallies.iter().map(Tally::server_errors).sum(),
            rows: counted(&statuses),
            may_be: self.may_cancel.then_some("CANCELLED"),
            failures: self.failures,
            notes: self.notes,
        };
        for trouble in self.tallies.iter().filter_map(|tally| tally.trouble(202)) {
            verdict.notes.push(format!("the client saw {trouble}"));
        }
        let unrecorded = accepted
            .iter()
            .filter(|id| !statuses.contains_key(id))
            .count();
        verdict.judge(self.may_err, unrecorded, unfenced);
        Ok(verdict)
    }

    async fn check_attempts(&mut self) -> Result<()> {
        let Some(most) = self.most_attempts else {
            return Ok(());
        };
        let highest = self.rig.database.highest_attempt().await?;
        if highest > most {
            self.fail(format!(
                "a task was claimed and given back over and over: it is at attempt {highest}, where {most} are enough"
            ));
        }
        Ok(())
    }
}

/// How many rows have each status.
fn counted(statuses: &BTreeMap<Uuid, String>) -> Vec<(String, usize)> {
    let mut rows = BTreeMap::<&str, usize>::new();
    for status in statuses.values() {
        *rows.entry(status).or_default() += 1;
    }
    rows.into_iter()
        .map(|(status, count)| (status.to_owned(), count))
        .collect()
}
