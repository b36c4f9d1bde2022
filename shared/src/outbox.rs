//! The outbox: messages that are committed and not yet confirmed by the broker. A row is written by the
//! transaction that makes its message true, and leaves when the broker has confirmed it. Publishing twice
//! is harmless (the claim fences it); losing a row is not.

use crate::{
    backoff::Delay,
    config::Database,
    db::Session,
    envelope::Envelope,
    event::Event,
    schema, statement,
    task::{Lane, Queue, TaskId},
    topology,
};
use chrono::{DateTime, Utc};
use diesel::{
    RunQueryDsl,
    prelude::{Insertable, Queryable},
    sql_types::{Array, Uuid as SqlUuid},
};
use std::{
    collections::HashSet,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// One row of the outbox: a message and where it goes.
#[derive(Debug, Clone, Insertable, Queryable)]
#[diesel(table_name = schema::outbox)]
pub struct OutboxRow {
    pub id: Uuid,
    pub task_id: Uuid,
    pub attempt: i32,
    pub kind: String,
    pub lane: String,
    pub exchange: String,
    pub routing_key: String,
    pub traceparent: Option<String>,
    /// When the relay may take it, in case it is not confirmed by then.
    pub publish_after: DateTime<Utc>,
    pub tries: i32,
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// To the workers, now.
    Tasks,
    /// To the workers, after this delay tier (seconds).
    After(u16),
    /// To the dead-letter queue, for people to look at.
    Dead,
}

impl Route {
    /// The route of a wait, if RabbitMQ is what carries it out.
    pub fn after(delay: Delay) -> Option<Self> {
        match delay {
            Delay::Tier(seconds) => Some(Self::After(seconds)),
            Delay::Until(_) => None,
        }
    }

    pub fn exchange(self) -> String {
        match self {
            Self::Tasks => topology::TASKS.to_owned(),
            Self::After(seconds) => topology::retry_tier(seconds),
            Self::Dead => topology::DEAD.to_owned(),
        }
    }

    fn seconds(self) -> i64 {
        match self {
            Self::After(seconds) => seconds.into(),
            Self::Tasks | Self::Dead => 0,
        }
    }

    /// When this message is expected to reach a worker.
    pub fn arrives(self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + chrono::TimeDelta::seconds(self.seconds())
    }
}

/// What a message is about.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    pub task: TaskId,
    /// The attempt to be made; for [`Route::Dead`] the one that was made last.
    pub attempt: i32,
    pub kind: &'a str,
    pub queue: Queue,
    pub lane: Lane,
    pub traceparent: Option<&'a str>,
}

impl OutboxRow {
    /// `patience` is how long the publisher has before the relay takes over.
    pub fn new(
        subject: &Subject<'_>,
        route: Route,
        now: DateTime<Utc>,
        patience: Duration,
    ) -> Self {
        Self::with_id(Uuid::now_v7(), subject, route, now, patience)
    }

    /// Likewise, for a row that has its id already.
    pub fn with_id(
        id: Uuid,
        subject: &Subject<'_>,
        route: Route,
        now: DateTime<Utc>,
        patience: Duration,
    ) -> Self {
        Self {
            id,
            task_id: subject.task.0,
            attempt: subject.attempt,
            kind: subject.kind.to_owned(),
            lane: subject.lane.as_str().to_owned(),
            exchange: route.exchange(),
            routing_key: topology::routing_key(subject.queue, subject.lane),
            traceparent: subject.traceparent.map(str::to_owned),
            publish_after: now + patience,
            tries: 0,
        }
    }

    /// Of something that has happened.
    pub fn of_event(event: &str, subject: Uuid, traceparent: Option<&str>) -> Self {
        Self {
            id: Uuid::now_v7(),
            task_id: subject,
            attempt: 0,
            kind: event.to_owned(),
            lane: Lane::Normal.as_str().to_owned(),
            exchange: topology::EVENTS.to_owned(),
            routing_key: event.to_owned(),
            traceparent: traceparent.map(str::to_owned),
            // The relay is who publishes it.
            publish_after: Utc::now(),
            tries: 0,
        }
    }

    /// Whether nobody may be there to take it.
    pub(crate) fn is_event(&self) -> bool {
        self.exchange == topology::EVENTS
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        if !self.is_event() {
            return self.envelope().to_json();
        }
        // Names and ids alone, so this can't fail.
        serde_json::to_vec(&Event {
            id: self.id,
            event: self.kind.clone(),
            subject: self.task_id,
        })
        .unwrap_or_default()
    }

    fn envelope(&self) -> Envelope {
        Envelope {
            id: TaskId(self.task_id),
            kind: self.kind.clone(),
            attempt: self.attempt,
            lane: Lane::parse(&self.lane).unwrap_or(Lane::Normal),
        }
    }
}

statement! {
    /// Takes confirmed messages out; a row that is gone already is fine.
    pub struct DeleteConfirmed -> (SqlUuid,) { ids: Array<SqlUuid> = Vec<Uuid> }
    "DELETE FROM outbox WHERE id = ANY(?)"
}

/// What became of a published message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Confirmed(Uuid),
    /// No queue took it: the row stays.
    Returned(Uuid),
}

/// Deletes confirmed rows in batches, on a thread of its own.
///
/// The pause makes batches large, and lets a `basic.return` catch up with a confirm that lapin attached
/// it to wrongly. A row that is deleted late, or not at all, is published again; that is all.
#[derive(Debug)]
pub struct Sweeper {
    pub fates: Receiver<Fate>,
    pub stop: CancellationToken,
}

const PAUSE: Duration = Duration::from_millis(50);
const LARGEST_DELETE: usize = 10_000;

impl Sweeper {
    /// A channel of fates and the thread that deletes; the thread ends when every sender is gone.
    pub fn spawn(
        config: &Database,
        stop: CancellationToken,
    ) -> std::io::Result<(Sender<Fate>, std::thread::JoinHandle<()>)> {
        let (sender, fates) = std::sync::mpsc::channel();
        let session = Session::new(config).without_waiting_for_the_disk();
        let sweeper = Self { fates, stop };
        let thread = crate::threads::spawn("outbox-sweeper", move || sweeper.run(session))?;
        Ok((sender, thread))
    }

    fn run(self, mut session: Session) {
        let mut confirmed = Vec::new();
        loop {
            match self.fates.recv_timeout(Duration::from_secs(1)) {
                Ok(fate) => {
                    std::thread::sleep(PAUSE);
                    let mut returned = HashSet::new();
                    let ended = self.gather(fate, &mut confirmed, &mut returned);
                    confirmed.retain(|id| !returned.contains(id));
                    let mut delete = DeleteConfirmed {
                        ids: std::mem::take(&mut confirmed),
                    };
                    if let Some(Err(error)) =
                        session.run_until(&self.stop, "the outbox sweeper", |connection| {
                            (&delete).execute(connection)
                        })
                    {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "confirmed messages stay in the outbox"
                        );
                    }
                    delete.ids.clear();
                    confirmed = delete.ids;
                    if ended {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn gather(&self, first: Fate, confirmed: &mut Vec<Uuid>, returned: &mut HashSet<Uuid>) -> bool {
        let mut sort = |fate| match fate {
            Fate::Confirmed(id) => confirmed.push(id),
            Fate::Returned(id) => {
                returned.insert(id);
            }
        };
        sort(first);
        for _ in 1..LARGEST_DELETE {
            match self.fates.try_recv() {
                Ok(fate) => sort(fate),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
        false
    }
}

/// Writes rows outside the hot statements.
pub fn insert(
    connection: &mut diesel::PgConnection,
    rows: &[OutboxRow],
) -> diesel::QueryResult<usize> {
    // Ten columns a row, 65,535 binds a statement.
    rows.chunks(5000)
        .map(|rows| {
            diesel::insert_into(schema::outbox::table)
                .values(rows)
                .execute(connection)
        })
        .sum()
}
