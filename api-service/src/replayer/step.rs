//! One step of one replay.

use super::decision::{self, Next, Outcomes, ReplayState, View};
use crate::{
    auth::{Caller, Scopes},
    queries::{
        audit::{self, Actor, Deed},
        operate::{self, Chosen},
        replays::{self, Progress, ReplayRow},
        tasks::{self, Filter},
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::{Connection, PgConnection, QueryResult};
use serde_json::json;
use shared::outbox::OutboxRow;
use std::time::Duration;
use uuid::Uuid;

/// Tasks that one step runs again.
const BATCH: i64 = 1000;
/// Between two looks at a replay that goes on.
const LIVE: TimeDelta = TimeDelta::milliseconds(200);
/// Between two looks at one that was stopped, for what its tasks come to.
const STOPPED: TimeDelta = TimeDelta::seconds(5);

pub(super) struct Step {
    /// Committed; to be published.
    pub(super) messages: Vec<OutboxRow>,
    pub(super) ended: Option<(Uuid, ReplayState, String)>,
}

/// Takes the next replay that is due one step further; none when no replay is due.
pub(super) fn next(connection: &mut PgConnection, patience: Duration) -> QueryResult<Option<Step>> {
    connection.transaction(|connection| {
        let Some((row, now)) = replays::due(connection)? else {
            return Ok(None);
        };
        let Some(mut replay) = Replay::of(row, now) else {
            return replays::put_off(connection).map(|_| None);
        };
        let step = replay.go(connection, patience)?;
        replays::save(connection, replay.row.id, &replay.progress)?;
        Ok(Some(step))
    })
}

struct Replay {
    row: ReplayRow,
    filter: Filter,
    progress: Progress,
    state: ReplayState,
    now: DateTime<Utc>,
}

impl Replay {
    /// None: made by a later version, which will go on with it.
    fn of(row: ReplayRow, now: DateTime<Utc>) -> Option<Self> {
        let state = ReplayState::parse(&row.state)?;
        let mut filter: Filter = serde_json::from_value(row.filter.clone()).ok()?;
        filter.ended_by = Some(row.created_at);
        let progress = Progress::of(&row, state.as_str());
        Some(Self {
            row,
            filter,
            progress,
            state,
            now,
        })
    }

    fn go(&mut self, connection: &mut PgConnection, patience: Duration) -> QueryResult<Step> {
        let mut step = Step {
            messages: Vec::new(),
            ended: None,
        };
        let settled = replays::settle(connection, self.row.id, self.row.timeout_s)?;
        self.progress.succeeded += settled.succeeded;
        self.progress.failed += settled.failed;
        let recent = match self.row.share_of {
            Some(latest) => replays::latest_outcomes(connection, self.row.id, latest)?,
            None => self.outcomes(),
        };
        self.progress.share = recent.share();
        let was_live = self.row.finished_at.is_none();
        let mut pause = LIVE;
        loop {
            match decision::next(&self.view(recent)) {
                Next::Turn(state) => self.turn(state),
                Next::Wait => break,
                Next::Replay(count) => {
                    step.messages = self.replay(connection, count.min(BATCH), patience)?;
                    if self.state == ReplayState::Running {
                        pause = TimeDelta::zero();
                    }
                    break;
                }
                Next::End(state, reason) => {
                    self.turn(state);
                    self.end(connection, &reason)?;
                    step.ended = Some((self.row.id, state, reason));
                    break;
                }
            }
        }
        let waits = self.progress.replayed > self.outcomes().settled();
        self.progress.due_at = match (was_live && step.ended.is_none(), waits) {
            (true, _) => Some(self.now + pause),
            (false, true) => Some(self.now + STOPPED),
            (false, false) => None,
        };
        Ok(step)
    }

    fn outcomes(&self) -> Outcomes {
        Outcomes {
            succeeded: self.progress.succeeded,
            failed: self.progress.failed,
        }
    }

    fn view(&self, recent: Outcomes) -> View {
        let row = &self.row;
        let paced_at = self.progress.paced_at.unwrap_or(self.now);
        View {
            state: self.state,
            canary: row.canary.into(),
            at_most: row.at_most,
            min_success: row.min_success,
            max_waiting: row.max_waiting.into(),
            replayed: self.progress.replayed,
            is_exhausted: self.progress.below == Some(Uuid::nil()),
            all: self.outcomes(),
            recent,
            allowance: decision::allowance(row.rate_per_s, paced_at, self.now),
        }
    }

    fn turn(&mut self, state: ReplayState) {
        self.state = state;
        self.progress.state = state.as_str();
        if state == ReplayState::Rolling {
            self.progress.paced_at = Some(self.now);
        }
    }

    fn end(&mut self, connection: &mut PgConnection, reason: &str) -> QueryResult<()> {
        self.progress.finished_at = Some(self.now);
        self.progress.reason = Some(reason.to_owned());
        if self.state == ReplayState::Stopped {
            let details = json!({"replay": self.row.id, "reason": reason});
            audit::note_other(connection, Actor::Service, "replay.stopped", details)?;
        }
        Ok(())
    }

    /// Runs the next tasks again, and moves the mark below which the others are.
    fn replay(
        &mut self,
        connection: &mut PgConnection,
        count: i64,
        patience: Duration,
    ) -> QueryResult<Vec<OutboxRow>> {
        let filter = Filter {
            below: self.progress.below.or(self.filter.below),
            ..self.filter.clone()
        };
        let page = tasks::page(connection, &filter, usize::try_from(count).unwrap_or(1))?;
        // Nothing is below the lowest id: that was all.
        self.progress.below = Some(page.next.unwrap_or(Uuid::nil()));
        if page.rows.is_empty() {
            return Ok(Vec::new());
        }
        let caller = Caller {
            key_id: self.row.created_by,
            name: self.row.actor.as_str().into(),
            scopes: Scopes::default(),
            budget: None,
        };
        let deed = Deed {
            by: &caller,
            action: "task.retry",
            details: Some(json!({"replay": self.row.id})),
            is_bulk: false,
        };
        let chosen = Chosen {
            ids: page.rows.iter().map(|row| row.id).collect(),
            statuses: filter.statuses,
        };
        let messages = operate::replay(connection, &chosen, patience, &deed)?;
        replays::note(connection, self.row.id, &messages)?;
        let replayed = i64::try_from(messages.len()).unwrap_or(i64::MAX);
        self.progress.replayed += replayed;
        self.progress.paced_at = self
            .progress
            .paced_at
            .map(|from| decision::paced(self.row.rate_per_s, from, replayed, self.now));
        Ok(messages)
    }
}
