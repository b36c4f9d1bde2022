//! Calls up tasks from the lines of the limits as room falls free: those that this process has slots for go straight to
//! its dispatchers, in front of what waits there, without another turn through RabbitMQ. A thread of its own does it, since
//! there may be very many lines.
//!
//! Until its claim, a task that was called up stays in its line, marked; if its caller dies, it is called again.

pub mod round;

use crate::{
    dispatcher::{Common, Event},
    heartbeat::Identity,
    load::Loads,
    policy::Policies,
    queries::wake::{self, Called},
};
use round::{Next, Round};
use shared::{
    config::Config,
    db::Session,
    envelope::Envelope,
    gate::Gate,
    limits::BucketName,
    task::{Lane, Queue, TaskId},
    threads,
};
use std::{
    collections::HashSet,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Between two rounds while tasks wait that nothing else tells of, and while some may begin to.
const REST: Duration = Duration::from_millis(250);
/// Likewise where no limit is in force: tasks may stand in the line of one that is gone.
const LONG_REST: Duration = Duration::from_secs(2);

/// What the thread hears of.
#[derive(Debug)]
pub enum Signal {
    /// An attempt under a limit has ended.
    Room,
    /// These were called up and are not begun here.
    Back(Vec<Uuid>),
}

/// Where tasks that are called up go.
pub struct Doors {
    pub queues: Vec<(Queue, Sender<Event>)>,
    pub loads: Loads,
    /// Queues of which nothing new is begun.
    pub on_hold: watch::Receiver<HashSet<Queue>>,
}

impl Doors {
    /// Queues that are consumed here, not on hold, and have room.
    fn open(&self) -> Vec<(Queue, usize)> {
        let on_hold = self.on_hold.borrow();
        self.queues
            .iter()
            .map(|(queue, _)| *queue)
            .filter(|queue| !on_hold.contains(queue))
            .map(|queue| (queue, self.loads.room(queue)))
            .filter(|(_, free)| *free > 0)
            .collect()
    }

    /// Those that no dispatcher takes come back.
    fn send(&self, called: Vec<Called>) -> Vec<Uuid> {
        let ids = called
            .into_iter()
            .filter_map(|task| self.send_one(task).err());
        ids.collect()
    }

    fn send_one(&self, called: Called) -> Result<(), Uuid> {
        let id = called.id;
        let queue = Queue::parse(&called.queue).ok_or(id)?;
        let lane = Lane::parse(&called.lane).ok_or(id)?;
        let door = self.queues.iter().find(|(one, _)| *one == queue);
        let (_, events) = door.ok_or(id)?;
        let envelope = Envelope {
            id: TaskId(id),
            kind: called.kind,
            attempt: called.attempt,
            lane,
        };
        // Counted first: the dispatcher may begin it in this moment.
        self.loads.called(queue);
        events.send(Event::CalledUp(envelope)).map_err(|_| {
            self.loads.begun(queue);
            id
        })
    }
}

/// Starts the thread, which works from when `registered` opens until `stop`, and ends when nobody can signal any more.
pub fn spawn(
    config: &Config,
    common: &Common,
    doors: Doors,
    signals: Receiver<Signal>,
    registered: &Gate,
    stop: &CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let caller = Caller {
        session: Session::new(&config.database).by_key(),
        policies: common.policies.clone(),
        identity: common.identity.clone(),
        doors,
        place: None,
        back: Vec::new(),
        stop: stop.clone(),
    };
    let registered = registered.clone();
    threads::spawn("lines", move || {
        if registered.wait() {
            caller.run(&signals);
        }
    })
}

struct Caller {
    session: Session,
    policies: Policies,
    identity: Identity,
    doors: Doors,
    /// The line that was looked at last.
    place: Option<BucketName>,
    /// To be put back into their lines.
    back: Vec<Uuid>,
    stop: CancellationToken,
}

impl Caller {
    fn run(mut self, signals: &Receiver<Signal>) {
        let mut next = Instant::now();
        loop {
            match signals.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(signal) => {
                    self.note(signal);
                    while let Ok(signal) = signals.try_recv() {
                        self.note(signal);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.put_back();
            next = Instant::now() + self.call_up();
        }
        self.put_back();
    }

    fn note(&mut self, signal: Signal) {
        if let Signal::Back(ids) = signal {
            self.back.extend(ids);
        }
    }

    fn put_back(&mut self) {
        if self.back.is_empty() {
            return;
        }
        let ids = std::mem::take(&mut self.back);
        // Whatever is not put back now, is when its time is over.
        if let Err(error) = self
            .session
            .run(|connection| wake::put_back(connection, ids))
        {
            debug("putting tasks back into their lines", &error);
        }
    }

    /// One round; says how long the next can wait.
    fn call_up(&mut self) -> Duration {
        let Some(policy) = self.policies.get() else {
            return REST;
        };
        if self.stop.is_cancelled() || !self.identity.is_held() {
            return REST;
        }
        let rest = if policy.is_open() { LONG_REST } else { REST };
        let round = Round::new(&policy, self.doors.open());
        let (doors, place, back) = (&self.doors, &mut self.place, &mut self.back);
        let done = self.session.run(|connection| {
            round.run(connection, place, |called| back.extend(doors.send(called)))
        });
        match done {
            Ok(Next::Nobody) => rest,
            Ok(Next::Within(time)) => time.min(REST),
            Err(error) => {
                debug("calling up tasks", &error);
                REST
            }
        }
    }
}

/// The loops that can't do without the database report its absence.
fn debug(what: &str, error: &shared::db::DbError) {
    tracing::debug!(
        error = error as &dyn std::error::Error,
        "{what} had to be put off"
    );
}
