//! The parts of the model, and how a step is taken: something happens, then the laws are checked.

use super::{
    Answer, At, Fate, Op,
    record::{Done, Key, Record, Seen, check_running},
    workers::Worker,
};
use diesel::{PgConnection, RunQueryDsl, connection::SimpleConnection};
use proptest::test_runner::TestCaseError;
use shared::{outbox::DeleteConfirmed, topology};
use uuid::Uuid;

pub(super) type Outcome = Result<Done, TestCaseError>;

/// More at once would only make histories less likely to be of interest.
const MOST_TASKS: usize = 6;
const MOST_WORKERS: usize = 4;
/// In so many rounds everything must come to its end: a task has three attempts, and those of its replays.
const ROUNDS: u32 = 20;

pub(super) struct Machine<'c> {
    pub(super) connection: &'c mut PgConnection,
    /// The messages that the broker has ready, in no order: task, and the attempt to be made.
    pub(super) queue: Vec<Key>,
    /// Those that run, and those whose death nobody has noticed.
    pub(super) workers: Vec<Worker>,
    pub(super) record: Record,
    /// The rows as they are.
    pub(super) now: Vec<Seen>,
}

impl<'c> Machine<'c> {
    pub(super) fn new(connection: &'c mut PgConnection) -> Self {
        connection
            .batch_execute(
                "DELETE FROM tasks; DELETE FROM outbox; DELETE FROM task_attempts;
                 DELETE FROM workers; DELETE FROM audit_log",
            )
            .unwrap();
        let mut machine = Self {
            connection,
            queue: Vec::new(),
            workers: Vec::new(),
            record: Record::default(),
            now: Vec::new(),
        };
        machine.start();
        machine
    }

    pub(super) fn step(&mut self, op: &Op) -> Result<(), TestCaseError> {
        self.happen(op)
            .and_then(|done| self.check(&done))
            .map_err(|error| TestCaseError::fail(format!("{error}, by {op:?}")))
    }

    /// What is not possible now does nothing.
    fn happen(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Accept(order) if self.now.len() < MOST_TASKS => self.accept(*order),
            Op::Publish(fates) => self.publish(fates),
            Op::Deliver {
                worker,
                messages,
                claim,
            } => return self.deliver(*worker, messages, *claim),
            Op::Duplicate(message) => {
                let place = message.of(self.queue.len());
                self.queue.extend(place.map(|place| self.queue[place]));
            }
            Op::Lose(message) => {
                if let Some(place) = message.of(self.queue.len()) {
                    let lost = self.queue.swap_remove(place);
                    self.record.missing.insert(lost);
                }
            }
            Op::Wipe => self.wipe(),
            Op::Act { worker, attempt } => self.act(*worker, *attempt),
            Op::Settle {
                worker,
                ends,
                answer,
            } => return self.settle(*worker, ends, *answer),
            Op::Crash(worker) => self.crash(*worker),
            Op::Stop(worker) => return self.stop(*worker),
            Op::Start if self.workers.len() < MOST_WORKERS => self.start(),
            Op::Beat(worker) => self.beat(*worker),
            Op::Declare(worker) => return self.declare(*worker),
            Op::Rescue(limit) => return Ok(self.rescue(*limit)),
            Op::Elapse { task, useful } => self.elapse(*task, *useful),
            Op::Promote => return Ok(self.promote()),
            Op::Republish => self.republish(),
            Op::Requeue => self.requeue(),
            Op::Cancel(task) => return Ok(self.cancel(*task)),
            Op::Replay(task) => return Ok(self.replay(*task)),
            Op::Reschedule(task) => return Ok(self.reschedule(*task)),
            Op::Resolve { task, completed } => return Ok(self.resolve(*task, *completed)),
            Op::Accept(_) | Op::Start => {}
        }
        Ok(Done::default())
    }

    fn check(&mut self, done: &Done) -> Result<(), TestCaseError> {
        let before = std::mem::replace(&mut self.now, Seen::all(self.connection));
        let alive = api_service::queries::workers::alive(self.connection).unwrap();
        let alive = alive.into_iter().map(|(id, _)| id).collect();
        self.record
            .check_changes(&before, &self.now, done, &alive)?;
        let outbox = self.outbox();
        let messages = outbox.iter().chain(&self.queue).copied().collect();
        self.record.check_waiting(&self.now, &messages)?;
        check_running(&self.now, &alive, &self.workers)
    }

    /// Messages leave the outbox for their queues. One that is to wait in a delay tier may be delivered at any time as
    /// well: the claim must not mind.
    fn publish(&mut self, fates: &[Fate]) {
        let rows = self.overdue(fates.len());
        let mut confirmed = DeleteConfirmed::default();
        for (row, fate) in rows.iter().zip(fates) {
            if *fate != Fate::NotPublished && row.exchange != topology::DEAD {
                self.queue.push((row.task_id, row.attempt));
            }
            if *fate == Fate::Confirmed {
                confirmed.ids.push(row.id);
            }
        }
        (&confirmed).execute(self.connection).unwrap();
    }

    fn wipe(&mut self) {
        self.record.missing.extend(self.queue.drain(..));
        for worker in &mut self.workers {
            for running in &mut worker.running {
                self.record.missing.extend(running.delivery.take());
            }
        }
    }

    pub(super) fn task(&self, at: At) -> Option<Uuid> {
        at.of(self.now.len()).map(|place| self.now[place].id)
    }

    /// Every worker dies, and a new one does all that is left, while nothing is lost any more.
    pub(super) fn run_out(&mut self) -> Result<(), TestCaseError> {
        const FIRST: At = At(0);
        while !self.workers.is_empty() {
            self.step(&Op::Crash(FIRST))?;
            self.step(&Op::Declare(FIRST))?;
        }
        self.step(&Op::Rescue(u8::MAX))?;
        self.step(&Op::Start)?;
        // Where no message was lost, nobody needs to look for one.
        let is_missing = !self.record.missing.is_empty();
        for _ in 0..ROUNDS {
            if self.now.iter().all(|task| task.status.is_final()) {
                break;
            }
            for place in 0..MOST_TASKS {
                let task = At(u8::try_from(place).unwrap());
                self.step(&Op::Elapse {
                    task,
                    useful: false,
                })?;
            }
            self.step(&Op::Promote)?;
            if is_missing {
                self.step(&Op::Requeue)?;
            }
            self.step(&Op::Publish(vec![Fate::Confirmed; 100]))?;
            while !self.queue.is_empty() {
                self.step(&Op::Deliver {
                    worker: FIRST,
                    messages: vec![FIRST],
                    claim: Answer::Comes,
                })?;
                self.step(&Op::Act {
                    worker: FIRST,
                    attempt: FIRST,
                })?;
                self.step(&Op::Settle {
                    worker: FIRST,
                    ends: vec![(FIRST, 0)],
                    answer: Answer::Comes,
                })?;
            }
        }
        self.record.check_end(&self.now)
    }
}
