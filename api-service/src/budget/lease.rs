//! The thread that leases for all budgets of this process: whatever is wanted at the moment goes into one statement, as
//! in the intake, and ten times a second what will be wanted is fetched and what was not used is given back.

use super::{
    Budget, Limits, State,
    limits::daily_terms,
    purse::{Ask, Lease, Terms},
};
use crate::queries::budgets;
use shared::{
    config::Config,
    db::{DbError, Session},
    gate::Gate,
    threads,
};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const TICK: Duration = Duration::from_millis(100);
/// How long an idle thread takes to notice the end.
const IDLE: Duration = Duration::from_millis(250);

pub(super) fn spawn(
    config: &Config,
    woken: Receiver<Option<Arc<Budget>>>,
    ready: Gate,
    finish: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let mut thread = Thread {
        session: Session::new(&config.database),
        listed: Vec::new(),
    };
    threads::spawn("key-limits", move || {
        if ready.wait() {
            thread.run(&woken, &finish);
        }
    })
}

struct Thread {
    session: Session,
    listed: Vec<Arc<Budget>>,
}

/// The two limits of a key.
#[derive(Clone, Copy)]
enum Part {
    Tokens,
    Tasks,
}

impl Part {
    fn terms(self, limits: &Limits) -> Option<Terms> {
        match self {
            Self::Tokens => limits.rate.map(super::Rate::terms),
            Self::Tasks => limits.daily.map(daily_terms),
        }
    }

    fn of(self, state: &mut State) -> &mut super::Purse {
        match self {
            Self::Tokens => &mut state.tokens,
            Self::Tasks => &mut state.tasks,
        }
    }
}

impl Thread {
    fn run(&mut self, woken: &Receiver<Option<Arc<Budget>>>, finish: &CancellationToken) {
        let mut next_tick = Instant::now() + TICK;
        while !finish.is_cancelled() {
            let pause = if self.listed.is_empty() {
                IDLE
            } else {
                next_tick.saturating_duration_since(Instant::now())
            };
            match woken.recv_timeout(pause) {
                Ok(budget) => self.listed.extend(budget),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while let Ok(budget) = woken.try_recv() {
                self.listed.extend(budget);
            }
            let now = Instant::now();
            let ticks = now >= next_tick;
            if ticks {
                next_tick = now + TICK;
            }
            for part in [Part::Tokens, Part::Tasks] {
                self.round(part, |purse, terms| purse.begin(terms, ticks, now));
            }
            if ticks {
                self.listed.retain(|budget| {
                    let mut state = budget.lock();
                    state.is_listed = !(state.tokens.is_quiet() && state.tasks.is_quiet());
                    state.is_listed
                });
            }
        }
        while let Ok(budget) = woken.try_recv() {
            self.listed.extend(budget);
        }
        // Tokens come back by themselves.
        let now = Instant::now();
        self.round(Part::Tasks, |purse, terms| purse.empty(terms, now));
    }

    /// Asks the record for one part of all budgets.
    fn round(
        &mut self,
        part: Part,
        mut begin: impl FnMut(&mut super::Purse, &Terms) -> Option<Ask>,
    ) {
        let mut asking = Vec::new();
        let mut keys = HashSet::new();
        for budget in &self.listed {
            // A key whose limits were taken away and given again has two for a moment; one asks at a time.
            if !keys.insert(budget.key) {
                continue;
            }
            let mut state = budget.lock();
            let Some(terms) = part.terms(&state.limits) else {
                continue;
            };
            if let Some(ask) = begin(part.of(&mut state), &terms) {
                let key = budget.key;
                asking.push((Arc::clone(budget), terms, Ask { key, ..ask }));
            }
        }
        if asking.is_empty() {
            return;
        }
        let asks: Vec<Ask> = asking.iter().map(|(_, _, ask)| *ask).collect();
        let asked_at = Instant::now();
        let leases = self.ask(part, &asks);
        if let Err(error) = &leases {
            // The outage itself is reported by the loops that live on the database.
            tracing::debug!(
                error = error as &dyn std::error::Error,
                "the limits of API keys could not be looked at"
            );
        }
        let leases = leases.unwrap_or_default();
        for (budget, terms, ask) in asking {
            let mut state = budget.lock();
            let purse = part.of(&mut state);
            match leases.get(&ask.key) {
                Some(lease) => purse.finish(&ask, lease, &terms, asked_at),
                None => purse.fail(&ask, &terms, Instant::now()),
            }
        }
    }

    fn ask(&mut self, part: Part, asks: &[Ask]) -> Result<HashMap<Uuid, Lease>, DbError> {
        self.session.run(|connection| match part {
            Part::Tokens => budgets::lease_tokens(connection, asks),
            Part::Tasks => budgets::lease_tasks(connection, asks),
        })
    }
}
