//! What each API key may use: requests per second and tasks per day, over all replicas together.
//!
//! PostgreSQL holds a token bucket and a count of the day for each key that has limits. Each process leases from them in
//! batches, one statement for all its keys, so that most requests only take from a number in memory. It leases ahead at
//! most a small part of what is left, and gives back within a tenth of a second what it does not use: so together the
//! replicas never exceed a quota, and use it up but for that part. Keys without limits have no budget and cost nothing.
//!
//! While the database is away the rate is not looked at: what needs the database waits or fails by itself.

mod lease;
mod limits;
mod purse;
mod standing;

pub use limits::{Limits, OwnLimits, Rate};
pub use purse::{Ask, Lease};
pub(crate) use standing::{HEADERS, whole_seconds};

use actix_web::http::header::HeaderMap;
use chrono::NaiveDate;
use purse::{Purse, Short, Taken};
use shared::{
    config::{Auth, Config},
    gate::Gate,
};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long a request waits to learn whether the rate lets it pass; longer, and it passes.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a request was not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Too many requests; the next may come after that time.
    Rate(Duration),
    /// The day's quota has less left than the request needs; the next day begins after that time.
    Quota { wait: Duration, left: u64 },
    /// The request needs more than any day has.
    TooLarge(u64),
    /// The record could not be asked.
    Unavailable,
}

/// The budgets of all keys that have limits; clones share them.
#[derive(Clone)]
pub struct Budgets(Arc<Shared>);

struct Shared {
    usual: Auth,
    budgets: Mutex<HashMap<Uuid, Arc<Budget>>>,
    wake: Sender<Option<Arc<Budget>>>,
}

impl fmt::Debug for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budgets").finish_non_exhaustive()
    }
}

impl Budgets {
    /// Starts the thread that leases. It ends at `finish`, after it has given back what was not used.
    pub fn spawn(
        config: &Config,
        ready: Gate,
        finish: CancellationToken,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (wake, woken) = channel();
        let thread = lease::spawn(config, woken, ready, finish)?;
        let shared = Shared {
            usual: config.auth,
            budgets: Mutex::default(),
            wake,
        };
        Ok((Self(Arc::new(shared)), thread))
    }

    /// The key's budget; none when nothing limits it.
    pub fn of(&self, key: Uuid, own: OwnLimits) -> Option<Arc<Budget>> {
        let limits = Limits::of(own, &self.0.usual);
        let mut budgets = self.lock();
        if limits.is_none() {
            budgets.remove(&key);
            return None;
        }
        let budget = budgets
            .entry(key)
            .or_insert_with(|| Arc::new(Budget::new(key, limits, self.0.wake.clone())));
        budget.lock().set(limits);
        Some(Arc::clone(budget))
    }

    /// Forgets the budgets of all other keys.
    pub fn keep(&self, keys: &HashSet<Uuid>) {
        self.lock().retain(|key, _| keys.contains(key));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Budget>>> {
        self.0
            .budgets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one key may use.
pub struct Budget {
    key: Uuid,
    state: Mutex<State>,
    /// To the leasing thread: look, and at this budget too from now on.
    wake: Sender<Option<Arc<Budget>>>,
}

struct State {
    limits: Limits,
    tokens: Purse,
    tasks: Purse,
    /// The thread looks after it.
    is_listed: bool,
}

impl State {
    fn set(&mut self, limits: Limits) {
        let change = |purse: &mut Purse, is_limited| {
            if is_limited {
                purse.change();
            } else {
                purse.open();
            }
        };
        if limits.rate != self.limits.rate {
            change(&mut self.tokens, limits.rate.is_some());
        }
        if limits.daily != self.limits.daily {
            change(&mut self.tasks, limits.daily.is_some());
        }
        self.limits = limits;
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Budget {
    fn new(key: Uuid, limits: Limits, wake: Sender<Option<Arc<Self>>>) -> Self {
        let state = Mutex::new(State {
            limits,
            tokens: Purse::default(),
            tasks: Purse::default(),
            is_listed: false,
        });
        Self { key, state, wake }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the thread look after this budget; at once when somebody waits.
    fn call(self: &Arc<Self>, state: &mut State, waits: bool) {
        // The thread is gone only when the service ends.
        if !state.is_listed {
            state.is_listed = true;
            let _ended = self.wake.send(Some(Arc::clone(self)));
        } else if waits {
            let _ended = self.wake.send(None);
        }
    }

    /// Counts one request against the rate.
    pub async fn admit(self: &Arc<Self>) -> Result<(), Refusal> {
        let now = Instant::now();
        let (rate, look) = {
            let mut state = self.lock();
            let limits = state.limits;
            let rate = limits
                .rate
                .map(|rate| state.tokens.take(1, &rate.terms(), now));
            // Nothing is taken: this is so that the answer can say what is left of the day.
            let look = limits
                .daily
                .map(|daily| state.tasks.take(0, &limits::daily_terms(daily), now));
            let waits = [&rate, &look]
                .iter()
                .any(|taken| matches!(taken, Some(Taken::Wait(_))));
            self.call(&mut state, waits);
            (rate, look)
        };
        match rate {
            None | Some(Taken::Yes) => {}
            Some(Taken::No(short)) => return Err(limited(short)),
            Some(Taken::Wait(answer)) => match within(PATIENCE, answer).await {
                Some(Ok(())) => {}
                Some(Err(short)) => return Err(limited(short)),
                None => self.lock().tokens.pass(Instant::now()),
            },
        }
        if let Some(Taken::Wait(answer)) = look {
            let _unknown = within(PATIENCE, answer).await;
        }
        Ok(())
    }

    /// Takes that many tasks from the day's quota; none when there is no quota. Waits for the database as accepting does.
    pub async fn reserve(
        self: &Arc<Self>,
        tasks: u64,
        patience: Duration,
    ) -> Result<Option<Reservation>, Refusal> {
        let taken = {
            let mut state = self.lock();
            let Some(daily) = state.limits.daily else {
                return Ok(None);
            };
            if tasks > daily {
                return Err(Refusal::TooLarge(daily));
            }
            let terms = limits::daily_terms(daily);
            let taken = state.tasks.take(tasks, &terms, Instant::now());
            self.call(&mut state, matches!(taken, Taken::Wait(_)));
            taken
        };
        let short = match taken {
            Taken::Yes => None,
            Taken::No(short) => Some(short),
            Taken::Wait(answer) => match within(patience, answer).await {
                Some(answer) => answer.err(),
                None => return Err(Refusal::Unavailable),
            },
        };
        if let Some(Short { wait, left }) = short {
            metrics::counter!("warren_requests_limited_total", "reason" => "quota").increment(1);
            return Err(Refusal::Quota { wait, left });
        }
        Ok(Some(Reservation {
            budget: Arc::clone(self),
            tasks,
            day: self.lock().tasks.day(),
        }))
    }

    /// Says what the limits are and what is left of them: nothing, to a request that was refused.
    pub fn describe(&self, admitted: Result<(), Refusal>, headers: &mut HeaderMap) {
        let refused = match admitted {
            Err(Refusal::Rate(wait)) => Some(wait),
            _ => None,
        };
        let state = self.lock();
        standing::describe(&state.limits, &state.tokens, refused, &state.tasks, headers);
    }
}

fn limited(short: Short) -> Refusal {
    metrics::counter!("warren_requests_limited_total", "reason" => "rate").increment(1);
    Refusal::Rate(short.wait)
}

/// None: no answer came, in that time or at all.
async fn within<T>(patience: Duration, answer: oneshot::Receiver<T>) -> Option<T> {
    tokio::time::timeout(patience, answer).await.ok()?.ok()
}

/// Part of a day's quota. Dropped, it is used up: nobody knows whether the tasks were stored.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    tasks: u64,
    day: Option<NaiveDate>,
}

impl Reservation {
    /// Nothing was stored.
    pub fn give_back(self) {
        let mut state = self.budget.lock();
        state.tasks.put_back(self.tasks, self.day, Instant::now());
        self.budget.call(&mut state, false);
    }
}
