//! Looks at the tasks that somebody watches, for long polls and event streams alike: one thread asks PostgreSQL for all
//! of them at once while there are any, up to ten times a second.
//!
//! What it publishes of a task is its latest state and the output that has come since the look before. Nothing queues up
//! for a watcher that is slow: it finds the latest state, and reads what it has missed from the table by itself.

use crate::queries::watch::{self, Chunk, Look, Place, Stretch};
use shared::{
    config::Config,
    db::{DbError, Session},
    gate::Gate,
    task::TaskId,
    threads,
};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The pause between two looks is eight times what a look takes, within these bounds, so that many watchers can't keep
/// the database busy.
const SHORTEST_PAUSE: Duration = Duration::from_millis(90);
const LONGEST_PAUSE: Duration = Duration::from_millis(240);
const PAUSE_PER_LOOK: u32 = 8;
/// Between two looks at `stop` while nobody watches.
const IDLE: Duration = Duration::from_millis(50);
/// New pieces of output that are handed out, of each task, and in bytes of all; watchers read the rest by themselves.
const PIECES: i64 = 16;
const BYTES: usize = 4 << 20;

/// What was last seen of a task.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    /// None before the first look.
    pub look: Option<Arc<Look>>,
    /// Output that was new in that look.
    pub fresh: Option<Arc<Fresh>>,
    /// There is no such task any more.
    pub is_gone: bool,
}

/// New output: everything that follows one place, for a while.
#[derive(Debug)]
pub struct Fresh {
    pub from: Place,
    pub chunks: Vec<Chunk>,
}

/// A handle to the thread; clones share it.
#[derive(Clone)]
pub struct Watcher(Arc<Shared>);

#[derive(Default)]
struct Shared {
    watched: Mutex<HashMap<Uuid, channel::Sender<Sight>>>,
    /// Somebody watches.
    woken: Condvar,
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("watched", &self.0.watched().len())
            .finish()
    }
}

/// One who watches a task, until it is dropped.
#[derive(Debug)]
pub struct Watch(channel::Receiver<Sight>);

impl Watch {
    /// What is known now.
    pub fn sight(&mut self) -> Sight {
        self.0.borrow_and_update().clone()
    }

    /// Waits for another sight than the latest that was taken. Never returns once the watcher has ended.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for the task to be final or gone.
    pub async fn over(&mut self) {
        loop {
            let sight = self.sight();
            if sight.is_gone || sight.look.is_some_and(|look| look.is_final()) {
                return;
            }
            self.changed().await;
        }
    }
}

impl Watcher {
    /// Starts the thread, which works from when `ready` opens until `stop`.
    pub fn spawn(
        config: &Config,
        ready: Gate,
        stop: CancellationToken,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let shared = Arc::<Shared>::default();
        let mut looking = Looking {
            session: Session::new(&config.database).by_key(),
            shared: Arc::clone(&shared),
        };
        let thread = threads::spawn("watcher", move || {
            if ready.wait() {
                looking.run(&stop);
            }
        })?;
        Ok((Self(shared), thread))
    }

    pub fn watch(&self, task: TaskId) -> Watch {
        let mut receiver = {
            let mut watched = self.0.watched();
            watched.entry(task.0).or_default().subscribe()
        };
        // What was seen on behalf of others is news.
        if receiver.borrow().look.is_some() {
            receiver.mark_changed();
        }
        self.0.woken.notify_one();
        Watch(receiver)
    }
}

impl Shared {
    fn watched(&self) -> MutexGuard<'_, HashMap<Uuid, channel::Sender<Sight>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is watched, as it was last seen, as soon as there is something; `None` when stopped.
    fn next(&self, stop: &CancellationToken) -> Option<HashMap<Uuid, Option<Arc<Look>>>> {
        let mut watched = self.watched();
        loop {
            if stop.is_cancelled() {
                return None;
            }
            watched.retain(|_, sender| !sender.is_closed());
            if !watched.is_empty() {
                let seen = |sender: &channel::Sender<Sight>| sender.borrow().look.clone();
                return Some(
                    watched
                        .iter()
                        .map(|(id, sender)| (*id, seen(sender)))
                        .collect(),
                );
            }
            watched = self
                .woken
                .wait_timeout(watched, IDLE)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn publish(&self, seen: &HashMap<Uuid, Option<Arc<Look>>>, mut news: News) {
        let watched = self.watched();
        for id in seen.keys() {
            let Some(sender) = watched.get(id) else {
                continue;
            };
            let Some(look) = news.changed.remove(id) else {
                // Nobody who is up to date needs these any more.
                sender.send_if_modified(|sight| {
                    sight.fresh = None;
                    let is_gone = !news.unchanged.contains(id);
                    is_gone && !std::mem::replace(&mut sight.is_gone, true)
                });
                continue;
            };
            let fresh = news.fresh.remove(id);
            sender.send_replace(Sight {
                look: Some(Arc::new(look)),
                fresh: fresh.map(Arc::new),
                is_gone: false,
            });
        }
    }
}

/// What a look found; what it did not find is gone.
#[derive(Default)]
struct News {
    changed: HashMap<Uuid, Look>,
    unchanged: HashSet<Uuid>,
    fresh: HashMap<Uuid, Fresh>,
}

struct Looking {
    session: Session,
    shared: Arc<Shared>,
}

impl Looking {
    fn run(&mut self, stop: &CancellationToken) {
        while let Some(seen) = self.shared.next(stop) {
            let begin = Instant::now();
            match self.look(&seen) {
                Ok(news) => self.shared.publish(&seen, news),
                // The loops that can't do without the database report its absence.
                Err(error) => tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "watched tasks could not be looked at"
                ),
            }
            let pause = begin.elapsed() * PAUSE_PER_LOOK;
            if !threads::rest(stop, pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)) {
                return;
            }
        }
    }

    fn look(&mut self, seen: &HashMap<Uuid, Option<Arc<Look>>>) -> Result<News, DbError> {
        let ids = seen.keys().copied().collect();
        let looks = self
            .session
            .run(|connection| watch::look(connection, ids))?;
        let mut news = News::default();
        let mut stretches = Vec::new();
        for look in looks {
            let before = seen.get(&look.id).and_then(Option::as_deref);
            if before.is_some_and(|before| before.shows_the_same(&look)) {
                news.unchanged.insert(look.id);
                continue;
            }
            // Before the first look nobody is up to date.
            stretches.extend(before.map(|before| Stretch {
                task: look.id,
                from: before.head,
                to: look.head,
            }));
            news.changed.insert(look.id, look);
        }
        stretches.retain(|stretch| stretch.from < stretch.to);
        if stretches.is_empty() {
            return Ok(news);
        }
        let chunks = self
            .session
            .run(|connection| watch::output(connection, &stretches, PIECES, BYTES))?;
        let mut by_task: HashMap<Uuid, Vec<Chunk>> = HashMap::new();
        for (task, chunk) in chunks {
            by_task.entry(task).or_default().push(chunk);
        }
        news.fresh = stretches
            .iter()
            .filter_map(|stretch| {
                let chunks = by_task.remove(&stretch.task)?;
                let from = stretch.from;
                Some((stretch.task, Fresh { from, chunks }))
            })
            .collect();
        Ok(news)
    }
}
