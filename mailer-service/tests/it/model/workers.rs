//! Workers: they claim, act, settle, and die at any moment.

use super::{
    Answer, At,
    house::LIMIT,
    machine::{Machine, Outcome},
    record::{Done, Key},
};
use chrono::Utc;
use diesel::{RunQueryDsl, sql_query};
use mailer_service::{
    gate,
    queries::{
        claim::Claim,
        point::PassPoint,
        wake::Called,
        workers::{self, NewWorker},
    },
    settle::{Ended, Plan},
    task::{Claimed, Failure, TaskError, Verdict},
    wake::round::Round,
};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::value::RawValue;
use shared::{
    kinds,
    limits::{Allowance, Policy, Rule, Scope},
    task::{OnWorkerLost, Queue},
};
use std::{collections::HashSet, time::Duration};
use uuid::Uuid;

/// One at a time.
fn policy() -> Policy {
    let rule = Rule {
        scope: Scope::Key,
        name: LIMIT.to_owned(),
        allowance: Allowance {
            concurrency: Some(1),
            ..Allowance::default()
        },
    };
    Policy::new([rule], [], [])
}

pub(super) struct Worker {
    pub(super) id: Uuid,
    /// It does nothing any more, and its row does not say so.
    pub(super) crashed: bool,
    pub(super) running: Vec<Running>,
}

/// A claimed attempt.
pub(super) struct Running {
    task: Claimed,
    /// Under which of its worker's ids it was claimed.
    worker: Uuid,
    /// Not yet acknowledged.
    pub(super) delivery: Option<Key>,
    /// It has passed its point of no return.
    passed: bool,
    /// It has had its effect.
    acted: bool,
    /// It was told not to have it.
    refused: bool,
}

impl Running {
    pub(super) fn key(&self) -> Key {
        (self.task.id.0, self.task.attempt)
    }

    /// Its effect must be on record before.
    fn is_held_back(&self) -> bool {
        self.task.on_worker_lost == OnWorkerLost::Hold
            && kinds::find(&self.task.kind).is_some_and(|kind| kind.marks_point)
    }

    /// As the runner has it.
    fn dropped(&self) -> Verdict {
        if self.is_held_back() && !self.passed {
            Verdict::Released
        } else {
            Verdict::Dropped
        }
    }

    fn verdict(&self, how: u8) -> Verdict {
        let failure = Failure::new("model", "as the history has it");
        let error = match (self.acted, how % 5) {
            _ if self.refused => TaskError::Interrupted,
            (true, 0..=2) => return Verdict::Completed(RawValue::NULL.to_owned()),
            (true, 3) => TaskError::Unclear(failure),
            (false, 0) => TaskError::Retry(failure),
            (false, 1) => TaskError::RetryAfter(Duration::from_secs(4000), failure),
            (false, 2) => TaskError::Fail(failure),
            (false, 3) => return Verdict::Released,
            _ => return self.dropped(),
        };
        Verdict::Failed(error)
    }
}

impl Machine<'_> {
    pub(super) fn start(&mut self) {
        let worker = Worker {
            id: self.register(),
            crashed: false,
            running: Vec::new(),
        };
        self.workers.push(worker);
    }

    fn register(&mut self) -> Uuid {
        let id = Uuid::now_v7();
        let worker = NewWorker {
            id,
            name: "model".into(),
            host: "model".into(),
            pid: 1,
            version: "0",
            queues: Vec::new(),
            kinds: Vec::new(),
            state: "alive",
        };
        workers::register(self.connection, &worker).unwrap();
        id
    }

    /// The place of one that has not crashed.
    fn living(&self, at: At) -> Option<usize> {
        at.of(self.workers.len())
            .filter(|place| !self.workers[*place].crashed)
    }

    /// One statement for all messages; those of what runs here already are adopted.
    pub(super) fn deliver(&mut self, worker: At, messages: &[At], answer: Answer) -> Outcome {
        let Some(place) = self.living(worker) else {
            return Ok(Done::default());
        };
        let mut asked: Vec<Key> = Vec::new();
        for at in messages {
            let Some(at) = at.of(self.queue.len()) else {
                break;
            };
            let message = self.queue.swap_remove(at);
            let mut running = self.workers[place].running.iter_mut();
            if let Some(running) = running.find(|running| running.key() == message) {
                running.delivery = Some(message);
            } else if !asked.contains(&message) {
                asked.push(message);
            }
        }
        let done = self.claim(place, &asked, answer, true)?;
        if answer == Answer::Dies {
            self.queue.extend(asked);
        }
        Ok(done)
    }

    /// Calls up as many as the limit has room for, and claims them.
    pub(super) fn call_up(&mut self, worker: At, answer: Answer) -> Outcome {
        let Some(place) = self.living(worker) else {
            return Ok(Done::default());
        };
        let policy = policy();
        let open = Queue::ALL.iter().map(|queue| (*queue, 8)).collect();
        let mut called = Vec::new();
        let send =
            |some: Vec<Called>| called.extend(some.into_iter().map(|task| (task.id, task.attempt)));
        Round::new(&policy, open)
            .run(self.connection, &mut None, send)
            .unwrap();
        prop_assert!(called.len() <= 1, "over the limit: {called:?}");
        self.claim(place, &called, answer, false)
    }

    /// Whoever was called up was so long ago that it is called again.
    pub(super) fn forget(&mut self) {
        let sql = "UPDATE limit_waits SET woken_at = woken_at - interval '1 minute'";
        sql_query(sql).execute(self.connection).unwrap();
    }

    /// In one statement.
    fn claim(
        &mut self,
        place: usize,
        asked: &[Key],
        answer: Answer,
        is_delivered: bool,
    ) -> Outcome {
        let mut done = Done::default();
        let id = self.workers[place].id;
        let (ids, attempts) = asked.iter().copied().unzip();
        let statement = Claim::new(id, ids, attempts);
        let policy = policy();
        let claims = gate::claim(self.connection, &statement, &policy)
            .unwrap()
            .claims;
        let keys = |claimed: &[Claimed]| -> HashSet<Key> {
            let keys = claimed.iter().map(|task| (task.id.0, task.attempt));
            keys.collect()
        };
        done.claimed = keys(&claims.claimed);
        done.expired = claims.expired.iter().map(|id| id.0).collect();
        self.record.begin(&done.claimed)?;
        if answer == Answer::Lost {
            let again = gate::claim(self.connection, &statement, &policy).unwrap();
            prop_assert_eq!(keys(&again.claims.claimed), done.claimed.clone());
        }
        let running = claims.claimed.into_iter().map(|task| Running {
            worker: id,
            delivery: is_delivered.then_some((task.id.0, task.attempt)),
            passed: false,
            acted: false,
            refused: false,
            task,
        });
        if answer == Answer::Dies {
            drop(running);
            self.workers[place].crashed = true;
            let running = self.workers[place].running.drain(..);
            let delivered = running.filter_map(|running| running.delivery);
            self.queue.extend(delivered);
        } else {
            self.workers[place].running.extend(running);
        }
        Ok(done)
    }

    pub(super) fn act(&mut self, worker: At, attempt: At, in_vain: bool) {
        let Some(place) = self.living(worker) else {
            return;
        };
        let all = &mut self.workers[place].running;
        let Some(at) = attempt.of(all.len()) else {
            return;
        };
        let running = &mut all[at];
        if running.passed || running.refused {
            return;
        }
        let (id, attempt) = running.key();
        if running.is_held_back() {
            let statement = PassPoint {
                id: vec![id],
                attempt: vec![attempt],
                worker: vec![running.worker],
            };
            let passed = statement.run(self.connection).unwrap();
            running.refused = !passed.contains(&(id, attempt));
        }
        running.passed = !running.refused;
        running.acted = running.passed && !in_vain;
        if running.acted {
            *self.record.effects.entry(id).or_default() += 1;
        }
    }

    pub(super) fn settle(&mut self, worker: At, ends: &[(At, u8)], answer: Answer) -> Outcome {
        let Some(place) = self.living(worker) else {
            return Ok(Done::default());
        };
        let mut ending = Vec::new();
        for (at, how) in ends {
            let all = &mut self.workers[place].running;
            if let Some(at) = at.of(all.len()) {
                let running = all.swap_remove(at);
                ending.push((running.verdict(*how), running));
            }
        }
        let (done, deliveries) = self.write(ending, answer)?;
        if answer == Answer::Dies {
            self.queue.extend(deliveries);
            self.crash(worker);
        }
        Ok(done)
    }

    /// In one statement; returns what was to be acknowledged.
    fn write(
        &mut self,
        ending: Vec<(Verdict, Running)>,
        answer: Answer,
    ) -> Result<(Done, Vec<Key>), TestCaseError> {
        let deliveries = ending.iter().filter_map(|(_, running)| running.delivery);
        let deliveries = deliveries.collect();
        let batch: Vec<Ended> = ending
            .into_iter()
            .map(|(verdict, Running { task, .. })| Ended {
                task,
                verdict,
                took: std::time::Duration::ZERO,
                output: Vec::new(),
            })
            .collect();
        let mut rng = StdRng::seed_from_u64(0);
        let plan = Plan::of(
            &batch,
            Utc::now(),
            Duration::ZERO,
            Duration::from_secs(60),
            &mut rng,
        );
        let settled = plan.statement.run(self.connection).unwrap();
        let asked = |key: &Key| {
            let mut batch = batch.iter();
            batch.any(|ended| (ended.task.id.0, ended.task.attempt) == *key)
        };
        prop_assert!(settled.keys().all(asked), "not ours: {settled:?}");
        if answer == Answer::Lost {
            let again = plan.statement.run(self.connection).unwrap();
            prop_assert!(again.is_empty(), "settled again: {again:?}");
        }
        let settled: HashSet<Key> = settled.into_keys().collect();
        self.record.end(&settled)?;
        let done = Done {
            settled,
            ..Done::default()
        };
        Ok((done, deliveries))
    }

    /// What was delivered to it comes again.
    pub(super) fn crash(&mut self, worker: At) {
        if let Some(place) = self.living(worker) {
            let worker = &mut self.workers[place];
            worker.crashed = true;
            let running = worker.running.drain(..);
            self.queue
                .extend(running.filter_map(|running| running.delivery));
        }
    }

    pub(super) fn stop(&mut self, worker: At) -> Outcome {
        let Some(place) = self.living(worker) else {
            return Ok(Done::default());
        };
        let worker = self.workers.swap_remove(place);
        let running = worker.running.into_iter();
        let ending = running
            .map(|running| (running.dropped(), running))
            .collect();
        let (done, _acknowledged) = self.write(ending, Answer::Comes)?;
        workers::stopped(self.connection, worker.id).unwrap();
        Ok(done)
    }

    /// One that learns that it was declared dead goes on under a new id, and so does what it runs.
    pub(super) fn beat(&mut self, worker: At) {
        if let Some(place) = self.living(worker)
            && !workers::beat(self.connection, self.workers[place].id, &report(), 0.0).unwrap()
        {
            self.workers[place].id = self.register();
        }
    }
}

/// A worker that has nothing to say of itself.
fn report() -> workers::Report {
    workers::Report {
        load: serde_json::json!({}),
        running: serde_json::json!([]),
        rss_bytes: None,
        tasks_done: 0,
    }
}
