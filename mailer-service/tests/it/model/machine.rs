//! The parts of the model, and how a step is taken: something happens, then the laws are checked.

use super::{
    Answer, At, Fate, Op,
    record::{Done, Key, Record, Seen, check_limit, check_running},
    workers::Worker,
};
use diesel::{PgConnection, RunQueryDsl, connection::SimpleConnection};
use proptest::test_runner::TestCaseError;
use shared::{outbox::DeleteConfirmed, topology};
use uuid::Uuid;

pub(super) type Outcome = Result<Done, TestCaseError>;

/// More at once would only make histories less likely to be of interest.
const MOST_TASKS: usize = 5;
const MOST_WORKERS: usize = 3;
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
                 DELETE FROM workers; DELETE FROM audit_log;
                 DELETE FROM limit_waits; DELETE FROM limit_holds; DELETE FROM limit_buckets",
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
            Op::CallUp { worker, claim } => return self.call_up(*worker, *claim),
            Op::Forget => self.forget(),
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
            Op::Act {
                worker,
                attempt,
                in_vain,
            } => self.act(*worker, *attempt, *in_vain),
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
        check_limit(&self.now)?;
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

    /// Every worker is taken for dead, and a new one does all that is left, while nothing is lost any more. Those that
    /// were only frozen wake when they like.
    pub(super) fn run_out(&mut self) -> Result<(), TestCaseError> {
        for place in (0..self.workers.len()).rev() {
            self.step(&Op::Declare(at(place)))?;
        }
        self.step(&Op::Rescue(u8::MAX))?;
        let frozen = self.workers.len();
        if frozen.is_multiple_of(2) {
            self.wake(frozen)?;
        }
        self.start();
        // Where no message was lost, nobody needs to look for one.
        let is_missing = !self.record.missing.is_empty();
        for _ in 0..ROUNDS {
            if self.now.iter().all(|task| task.status.is_final()) {
                break;
            }
            for place in 0..self.now.len() {
                let (task, useful) = (at(place), false);
                self.step(&Op::Elapse { task, useful })?;
            }
            self.step(&Op::Promote)?;
            if is_missing {
                self.step(&Op::Requeue)?;
            }
            self.step(&Op::Publish(vec![Fate::Confirmed; 100]))?;
            self.take_all(at(frozen))?;
            // By now others have what they run.
            self.wake(frozen)?;
            self.finish(frozen)?;
            // Nobody is left who was called up and may come still.
            self.step(&Op::Forget)?;
            self.work_off_lines(frozen)?;
        }
        self.wake(frozen)?;
        self.record.check_end(&self.now)
    }

    /// Has one worker claim everything there is a message for.
    fn take_all(&mut self, worker: At) -> Result<(), TestCaseError> {
        while !self.queue.is_empty() {
            self.step(&Op::Deliver {
                worker,
                messages: vec![at(0)],
                claim: Answer::Comes,
            })?;
        }
        Ok(())
    }

    /// Has one worker do whatever waits for the limit.
    fn work_off_lines(&mut self, place: usize) -> Result<(), TestCaseError> {
        loop {
            self.step(&Op::CallUp {
                worker: at(place),
                claim: Answer::Comes,
            })?;
            if self.workers[place].running.is_empty() {
                return Ok(());
            }
            self.finish(place)?;
        }
    }

    /// Has the first so many workers do and say what they still can.
    fn wake(&mut self, frozen: usize) -> Result<(), TestCaseError> {
        (0..frozen).try_for_each(|place| self.finish(place))
    }

    fn finish(&mut self, place: usize) -> Result<(), TestCaseError> {
        while !self.workers[place].running.is_empty() {
            self.finish_one(at(place))?;
        }
        Ok(())
    }

    fn finish_one(&mut self, worker: At) -> Result<(), TestCaseError> {
        let attempt = at(0);
        self.step(&Op::Act {
            worker,
            attempt,
            in_vain: false,
        })?;
        self.step(&Op::Settle {
            worker,
            ends: vec![(attempt, 0)],
            answer: Answer::Comes,
        })
    }
}

fn at(place: usize) -> At {
    At(u8::try_from(place).unwrap())
}
