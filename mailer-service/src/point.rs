//! The point of no return: the moment from which an attempt may have had its effect.
//!
//! Only tasks that ask for `hold` have theirs on record, so that after a worker's death those that may have acted wait
//! for a person and the others are simply tried again. The record is on disk before the handler goes on, and it is
//! refused to an attempt that is somebody else's by now. A thread of its own writes it: it takes whatever is waiting, so
//! that concurrent mails share one commit.

use crate::{
    queries::point::PassPoint,
    registry::Key,
    task::{Claimed, TaskError},
};
use shared::{
    config::Config,
    db::Session,
    kinds,
    task::{OnWorkerLost, TaskId},
    threads,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use uuid::Uuid;

const LARGEST_BATCH: usize = 1024;

/// Between two tries while the database is away.
const PAUSE: Duration = Duration::from_millis(100);

/// Where an attempt stands towards its point of no return.
#[derive(Debug, Clone, Default)]
pub struct Point(Option<Arc<Held>>);

#[derive(Debug)]
struct Held {
    key: Key,
    /// Under whose lease it was claimed.
    worker: Uuid,
    recorder: Recorder,
    passed: AtomicBool,
}

impl Point {
    /// That of a task which `worker` has claimed. Where the kind does not say its point itself, the claim was it.
    pub fn of(task: &Claimed, worker: Uuid, recorder: &Recorder) -> Self {
        if task.on_worker_lost != OnWorkerLost::Hold {
            return Self(None);
        }
        let marks = kinds::find(&task.kind).is_some_and(|kind| kind.marks_point);
        Self(Some(Arc::new(Held {
            key: (task.id, task.attempt),
            worker,
            recorder: recorder.clone(),
            passed: AtomicBool::new(!marks),
        })))
    }

    /// Of a task that asks to be held.
    #[cfg(test)]
    pub(crate) fn for_tests(passed: bool) -> Self {
        let (recorder, _) = channel();
        Self(Some(Arc::new(Held {
            key: (TaskId::now(), 1),
            worker: Uuid::now_v7(),
            recorder: Recorder(recorder),
            passed: AtomicBool::new(passed),
        })))
    }

    /// The task asks to be held, and nothing was done yet that can't be taken back.
    pub fn is_ahead(&self) -> bool {
        self.held().is_some_and(|passed| !passed)
    }

    /// The task asks to be held, and its work may have been done.
    pub fn is_passed(&self) -> bool {
        self.held().is_some_and(|passed| passed)
    }

    fn held(&self) -> Option<bool> {
        let held = self.0.as_ref()?;
        Some(held.passed.load(Ordering::Acquire))
    }

    /// Returns once it is on record, which takes until the database is there.
    pub async fn pass(&self) -> Result<(), TaskError> {
        let Some(held) = self.0.as_ref().filter(|_| self.is_ahead()) else {
            return Ok(());
        };
        let (answer, granted) = oneshot::channel();
        held.recorder.ask(Request {
            key: held.key,
            worker: held.worker,
            answer,
        });
        // Without an answer the process stops.
        if !granted.await.unwrap_or(false) {
            return Err(TaskError::Interrupted);
        }
        held.passed.store(true, Ordering::Release);
        Ok(())
    }
}

#[derive(Debug)]
struct Request {
    key: Key,
    worker: Uuid,
    answer: oneshot::Sender<bool>,
}

/// A handle to the recording thread.
#[derive(Debug, Clone)]
pub struct Recorder(Sender<Request>);

impl Recorder {
    /// Starts the thread; it ends when every handle is gone.
    pub fn spawn(config: &Config) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (sender, asked) = channel();
        let recording = Recording {
            session: Session::new(&config.database).by_key(),
            asked,
            outage: None,
        };
        let thread = threads::spawn("point", move || recording.run())?;
        Ok((Self(sender), thread))
    }

    fn ask(&self, request: Request) {
        // The thread outlives every handle.
        let _ended = self.0.send(request);
    }
}

struct Recording {
    session: Session,
    asked: Receiver<Request>,
    outage: Option<Instant>,
}

impl Recording {
    fn run(mut self) {
        let mut batch = Vec::new();
        while let Ok(first) = self.asked.recv() {
            batch.push(first);
            while !batch.is_empty() {
                self.gather(&mut batch);
                if !self.record(&mut batch) {
                    std::thread::sleep(PAUSE);
                    // Who does not wait any longer has not acted and never will.
                    batch.retain(|request| !request.answer.is_closed());
                }
            }
        }
    }

    fn gather(&self, batch: &mut Vec<Request>) {
        let room = LARGEST_BATCH.saturating_sub(batch.len());
        batch.extend(self.asked.try_iter().take(room));
    }

    /// Answers the whole batch, or nobody while the database is away.
    fn record(&mut self, batch: &mut Vec<Request>) -> bool {
        let begin = Instant::now();
        let mut statement = PassPoint::default();
        for request in batch.iter() {
            let (TaskId(id), attempt) = request.key;
            statement.id.push(id);
            statement.attempt.push(attempt);
            statement.worker.push(request.worker);
        }
        let passed = match self.session.run(|connection| statement.run(connection)) {
            Ok(passed) => passed,
            Err(error) => {
                if self.outage.is_none() {
                    self.outage = Some(begin);
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "tasks that are to be held wait for the database before they act"
                    );
                }
                return false;
            }
        };
        if let Some(since) = self.outage.take() {
            tracing::info!(
                "the database is back after {:.1?}, tasks that are to be held go on",
                since.elapsed()
            );
        }
        metrics::histogram!("warren_point_commit_seconds").record(begin.elapsed().as_secs_f64());
        for request in batch.drain(..) {
            let (TaskId(id), attempt) = request.key;
            let granted = passed.contains(&(id, attempt));
            let answer = if granted { "passed" } else { "refused" };
            metrics::counter!("warren_points_of_no_return_total", "answer" => answer).increment(1);
            // Who has gone meanwhile does not act.
            let _gone = request.answer.send(granted);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::task::{Lane, Queue};

    fn task(kind: &str, on_worker_lost: OnWorkerLost) -> Claimed {
        Claimed {
            id: TaskId::now(),
            attempt: 1,
            max_attempts: 3,
            forgiven: 0,
            kind: kind.into(),
            queue: Queue::Work,
            lane: Lane::Normal,
            payload: "{}".into(),
            on_worker_lost,
            run_at: None,
            useful_for: None,
            started_at: None,
            traceparent: None,
            soft_limit_s: None,
            hard_limit_s: None,
            limited: false,
        }
    }

    #[tokio::test]
    async fn only_held_tasks_of_kinds_that_say_it_wait_for_the_record() {
        let (sender, asked) = channel();
        let recorder = Recorder(sender);
        let of = |kind, policy| Point::of(&task(kind, policy), Uuid::now_v7(), &recorder);
        for policy in [OnWorkerLost::Retry, OnWorkerLost::Fail] {
            let point = of("email.send", policy);
            assert!(!point.is_ahead() && !point.is_passed());
            point.pass().await.unwrap();
        }
        for claimed in ["demo.sleep", "of.tomorrow"] {
            let point = of(claimed, OnWorkerLost::Hold);
            assert!(point.is_passed(), "{claimed}");
            point.pass().await.unwrap();
        }
        assert!(asked.try_recv().is_err());

        let answers = std::thread::spawn(move || {
            for granted in [false, true] {
                let request = asked.recv().unwrap();
                request.answer.send(granted).unwrap();
            }
        });
        let point = of("email.send", OnWorkerLost::Hold);
        assert_eq!(point.pass().await, Err(TaskError::Interrupted));
        assert!(point.is_ahead());
        point.pass().await.unwrap();
        assert!(point.is_passed());
        answers.join().unwrap();
        // Once is enough; nobody would answer now.
        point.pass().await.unwrap();
    }
}
