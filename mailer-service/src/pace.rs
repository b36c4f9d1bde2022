//! How fast mails go: to relays that have a rate, and to recipients' domains that have asked for less.
//!
//! The gates are rows that all workers share (`queries/pace.rs`). This process knows which there are, so a mail that
//! passes none asks nobody. For the others a thread of its own takes places, for all that wait at once; a mail whose place
//! is further away than a moment is put off, without a slot and without an attempt, for as long as the others will take.

use crate::queries::pace;
use rand::RngExt as _;
use shared::{
    config::{Config, Throttle},
    db::Session,
    threads,
};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, PoisonError, RwLock,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::{oneshot, watch};

/// Between two looks at which gates there are.
const EVERY: Duration = Duration::from_secs(1);
/// Between two takings of places, so that one serves many.
const PAUSE: Duration = Duration::from_millis(20);
/// How far away a place may be that a mail waits for.
const HORIZON: Duration = Duration::from_secs(2);
const SHORTEST: Duration = Duration::from_secs(3);
const LONGEST: Duration = Duration::from_secs(600);
/// Refusals are counted for so long, as an estimate of how many wait.
const MEMORY: Duration = Duration::from_secs(60);

/// Whether a mail may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// After that time.
    In(Duration),
    /// Not within a moment; to be tried again after that time.
    Later(Duration),
}

/// A handle to the thread.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Those that there are.
    gates: Arc<RwLock<HashSet<String>>>,
    /// Those that there must be.
    own: Arc<HashSet<String>>,
    asked: Sender<Request>,
    slows: bool,
    mailers: watch::Receiver<usize>,
}

#[derive(Debug)]
enum Request {
    Take(String, oneshot::Sender<Turn>),
    Slow(String),
}

/// The gate of a relay.
pub fn relay(name: &str) -> String {
    format!("relay:{name}")
}

/// The gate of a recipient's domain.
pub fn domain(name: &str) -> String {
    format!("domain:{name}")
}

impl Pace {
    /// Starts the thread; it ends when every handle is gone.
    pub fn spawn(config: &Config) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (asked, requests) = channel();
        let gates = Arc::default();
        // As many as can be, until it is known.
        let (count, mailers) = watch::channel(usize::MAX);
        let rates: Vec<(String, f64)> = config
            .mail
            .relays
            .iter()
            .map(|(name, settings)| (relay(name), settings.rate_per_s))
            .collect();
        let own = rates.iter().filter(|(_, rate)| *rate > 0.0);
        let pace = Self {
            gates: Arc::clone(&gates),
            own: Arc::new(own.map(|(name, _)| name.clone()).collect()),
            asked,
            slows: config.mail.throttle.first_per_s > 0.0,
            mailers,
        };
        let thread = Thread {
            session: Session::new(&config.database),
            relays: Some(rates),
            throttle: config.mail.throttle.clone(),
            gates,
            mailers: count,
            refused: HashMap::new(),
        };
        let thread = threads::spawn("pace", move || thread.run(&requests))?;
        Ok((pace, thread))
    }

    /// When a mail may pass that gate.
    pub async fn turn(&self, gate: String) -> Turn {
        let is_there = self.own.contains(&gate) || {
            let gates = self.gates.read().unwrap_or_else(PoisonError::into_inner);
            !gates.is_empty() && gates.contains(&gate)
        };
        if !is_there {
            return Turn::In(Duration::ZERO);
        }
        let (answer, turn) = oneshot::channel();
        let _stopping = self.asked.send(Request::Take(gate, answer));
        turn.await.unwrap_or(Turn::Later(SHORTEST))
    }

    /// How many living workers send mails; very many, until that is known.
    pub fn mailers(&self) -> watch::Receiver<usize> {
        self.mailers.clone()
    }

    /// The domain behind that gate has asked for less.
    pub fn slow(&self, gate: String) {
        if self.slows {
            let _stopping = self.asked.send(Request::Slow(gate));
        }
    }
}

struct Thread {
    session: Session,
    /// Until they are set.
    relays: Option<Vec<(String, f64)>>,
    throttle: Throttle,
    gates: Arc<RwLock<HashSet<String>>>,
    mailers: watch::Sender<usize>,
    /// Mails put off at each gate, and since when they are counted.
    refused: HashMap<String, (Instant, u32)>,
}

impl Thread {
    fn run(mut self, requests: &Receiver<Request>) {
        let mut due = Instant::now();
        loop {
            if due <= Instant::now() {
                self.look();
                due = Instant::now() + EVERY;
            }
            match requests.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(first) => {
                    std::thread::sleep(PAUSE);
                    self.serve(std::iter::once(first).chain(requests.try_iter()));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look(&mut self) {
        let (relays, throttle) = (&self.relays, &self.throttle);
        let read = self.session.run(|connection| {
            if let Some(relays) = relays {
                pace::set_relays(connection, relays)?;
            }
            pace::recover(connection, throttle)?;
            Ok((pace::gates(connection)?, pace::mailers(connection)?))
        });
        match read {
            Ok((found, mailers)) => {
                self.relays = None;
                let mailers = usize::try_from(mailers).unwrap_or_default().max(1);
                self.mailers.send_if_modified(|known| {
                    let is_new = *known != mailers;
                    *known = mailers;
                    is_new
                });
                let names: HashSet<String> = found.into_iter().map(|gate| gate.name).collect();
                self.refused.retain(|gate, _| names.contains(gate));
                *self.gates.write().unwrap_or_else(PoisonError::into_inner) = names;
            }
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the gates for mails could not be read; the last known ones are used"
            ),
        }
    }

    fn serve(&mut self, requests: impl Iterator<Item = Request>) {
        let mut waiting: HashMap<String, Vec<oneshot::Sender<Turn>>> = HashMap::new();
        let mut slowed = HashSet::new();
        for request in requests {
            match request {
                Request::Take(gate, answer) if !answer.is_closed() => {
                    waiting.entry(gate).or_default().push(answer);
                }
                Request::Take(..) => {}
                Request::Slow(gate) => {
                    slowed.insert(gate);
                }
            }
        }
        for gate in slowed {
            self.slow(gate);
        }
        for (gate, answers) in waiting {
            self.take(&gate, answers);
        }
    }

    fn slow(&mut self, gate: String) {
        let throttle = &self.throttle;
        match self
            .session
            .run(|connection| pace::slow(connection, &gate, throttle))
        {
            Ok(Some(rate)) => {
                metrics::counter!("warren_mail_slowed_total").increment(1);
                tracing::warn!(mail.gate = %gate, mail.rate_per_s = rate, "mails to this domain go slower, since it asks for less");
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "that a domain asks for less could not be noted"
            ),
        }
        self.gates
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(gate);
    }

    fn take(&mut self, gate: &str, answers: Vec<oneshot::Sender<Turn>>) {
        let wanted = i32::try_from(answers.len()).unwrap_or(i32::MAX);
        let horizon = HORIZON.as_secs_f64();
        let taken = self
            .session
            .run(|connection| pace::take(connection, gate, wanted, horizon));
        let places = match taken {
            Ok(Some(places)) => places,
            Ok(None) => {
                tell(answers, |_| Turn::In(Duration::ZERO));
                return;
            }
            // Claiming needs the database too, so it will not be long.
            Err(_) => {
                tell(answers, |_| Turn::Later(SHORTEST));
                return;
            }
        };
        let granted = usize::try_from(places.granted).unwrap_or_default();
        let refused = answers.len().saturating_sub(granted);
        let later = self.later(gate, refused, places.rate);
        let mut answers = answers.into_iter();
        let now = answers.by_ref().take(granted).collect();
        tell(now, |index| {
            let index = f64::from(u32::try_from(index).unwrap_or(u32::MAX));
            Turn::In(
                Duration::try_from_secs_f64(places.first_s + index / places.rate)
                    .unwrap_or(HORIZON),
            )
        });
        let mut rng = rand::rng();
        tell(answers.collect(), |_| {
            Turn::Later(later.mul_f64(rng.random_range(0.5..1.5)))
        });
    }

    /// How long those that wait will take, by how many were put off of late.
    fn later(&mut self, gate: &str, refused: usize, rate: f64) -> Duration {
        if refused == 0 {
            return SHORTEST;
        }
        let now = Instant::now();
        let (since, count) = self.refused.entry(gate.to_owned()).or_insert((now, 0));
        if now.duration_since(*since) > MEMORY {
            // Half of what was counted stands for what is left of it.
            (*since, *count) = (now, *count / 2);
        }
        *count = count.saturating_add(u32::try_from(refused).unwrap_or(u32::MAX));
        let seconds = f64::from(*count) / rate;
        Duration::try_from_secs_f64(seconds)
            .unwrap_or(LONGEST)
            .clamp(SHORTEST, LONGEST)
    }
}

fn tell(answers: Vec<oneshot::Sender<Turn>>, mut turn: impl FnMut(usize) -> Turn) {
    for (index, answer) in answers.into_iter().enumerate() {
        // Who has gone meanwhile leaves a place unused.
        let _gone = answer.send(turn(index));
    }
}
