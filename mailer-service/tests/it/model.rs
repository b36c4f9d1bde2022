//! Random histories over the statements that move tasks: whatever is killed, repeated, delayed or lost, no task is lost
//! and none is settled twice.
//!
//! The statements are the real ones, in a real PostgreSQL. What runs them is a model: workers that die, freeze and go on
//! under another name, a broker that delivers in any order, twice, or not at all, a limit that lets one task run at a time,
//! reapers, reconcilers, and operators who get in the way. After every step the laws of [`record`] are checked; in the end everything is let run out, and
//! every task must have come to its end, each of its attempts exactly once.
//!
//! `PROPTEST_CASES` sets how many histories are tried; a failure tells its seed, and the shortest history that fails.

mod house;
mod machine;
mod record;
mod workers;

use diesel::{Connection, PgConnection, connection::SimpleConnection};
use machine::Machine;
use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestCaseError, TestError, TestRunner},
};
use shared::task::OnWorkerLost;
use testkit::harness::TestEnv;

/// What can happen next.
#[derive(Debug, Clone)]
enum Op {
    Accept(Order),
    /// The publisher or a relay takes waiting messages.
    Publish(Vec<Fate>),
    Deliver {
        worker: At,
        messages: Vec<At>,
        claim: Answer,
    },
    /// A worker with room calls up who is next in the lines of the limit.
    CallUp {
        worker: At,
        claim: Answer,
    },
    /// Whoever was called up before was so long ago.
    Forget,
    /// A message comes twice.
    Duplicate(At),
    /// A queue loses a message.
    Lose(At),
    /// The broker loses its data.
    Wipe,
    /// An attempt does its work, if it may; in vain, as when a relay takes no mail.
    Act {
        worker: At,
        attempt: At,
        in_vain: bool,
    },
    Settle {
        worker: At,
        /// Of each that ends: which, and how.
        ends: Vec<(At, u8)>,
        answer: Answer,
    },
    /// kill -9.
    Crash(At),
    /// SIGTERM, with what runs dropped half-way.
    Stop(At),
    Start,
    Beat(At),
    /// A reaper takes a worker for dead, be it so or not.
    Declare(At),
    Rescue(u8),
    /// The time of a task comes, or its usefulness ends.
    Elapse {
        task: At,
        useful: bool,
    },
    Promote,
    /// The reconciler sees a broker without our data.
    Republish,
    /// The reconciler sees empty queues.
    Requeue,
    Cancel(At),
    Replay(At),
    Reschedule(At),
    Resolve {
        task: At,
        completed: bool,
    },
}

/// Chooses one of however many there are.
#[derive(Debug, Clone, Copy)]
struct At(u8);

impl At {
    fn of(self, count: usize) -> Option<usize> {
        usize::from(self.0).checked_rem(count)
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
struct Order {
    on_worker_lost: OnWorkerLost,
    /// A mail, whose kind says its point of no return; else a kind that does not.
    mail: bool,
    max_attempts: u16,
    scheduled: bool,
    expires: bool,
    /// It counts against the limit, of one at a time.
    limited: bool,
}

/// What becomes of a message that is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Confirmed,
    /// It is in its queue, but the confirm does not come.
    Unconfirmed,
    NotPublished,
}

/// What becomes of the answer to a statement that took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Comes,
    /// The connection breaks; the statement is run again.
    Lost,
    /// The worker dies before it reads it, or acknowledges anything.
    Dies,
}

fn op() -> impl Strategy<Value = Op> {
    let at = || any::<u8>().prop_map(At);
    let some = move || prop::collection::vec(at(), 1..4);
    let answer =
        || prop_oneof![6 => Just(Answer::Comes), 1 => Just(Answer::Lost), 1 => Just(Answer::Dies)];
    let fate = prop_oneof![
        6 => Just(Fate::Confirmed), 1 => Just(Fate::Unconfirmed), 1 => Just(Fate::NotPublished)];
    let ends = prop::collection::vec((at(), any::<u8>()), 1..4);
    prop_oneof![
        8 => order().prop_map(Op::Accept),
        14 => prop::collection::vec(fate, 1..5).prop_map(Op::Publish),
        20 => (at(), some(), answer())
            .prop_map(|(worker, messages, claim)| Op::Deliver { worker, messages, claim }),
        8 => (at(), answer()).prop_map(|(worker, claim)| Op::CallUp { worker, claim }),
        2 => Just(Op::Forget),
        3 => at().prop_map(Op::Duplicate),
        1 => at().prop_map(Op::Lose),
        1 => Just(Op::Wipe),
        16 => (at(), at(), prop::bool::weighted(0.3))
            .prop_map(|(worker, attempt, in_vain)| Op::Act { worker, attempt, in_vain }),
        12 => (at(), ends, answer())
            .prop_map(|(worker, ends, answer)| Op::Settle { worker, ends, answer }),
        3 => at().prop_map(Op::Crash),
        1 => at().prop_map(Op::Stop),
        4 => Just(Op::Start),
        2 => at().prop_map(Op::Beat),
        6 => at().prop_map(Op::Declare),
        6 => (1..4_u8).prop_map(Op::Rescue),
        3 => (at(), any::<bool>()).prop_map(|(task, useful)| Op::Elapse { task, useful }),
        3 => Just(Op::Promote),
        1 => Just(Op::Republish),
        1 => Just(Op::Requeue),
        2 => at().prop_map(Op::Cancel),
        2 => at().prop_map(Op::Replay),
        1 => at().prop_map(Op::Reschedule),
        2 => (at(), any::<bool>()).prop_map(|(task, completed)| Op::Resolve { task, completed }),
    ]
}

fn order() -> impl Strategy<Value = Order> {
    use OnWorkerLost::{Fail, Hold, Retry};
    let policy = prop_oneof![3 => Just(Retry), 3 => Just(Hold), 1 => Just(Fail)];
    let rarely = || prop::bool::weighted(0.2);
    let kind = (any::<bool>(), any::<bool>());
    (policy, kind, 1..4_u16, rarely(), rarely()).prop_map(
        |(on_worker_lost, (mail, limited), max_attempts, scheduled, expires)| Order {
            on_worker_lost,
            mail,
            max_attempts,
            scheduled,
            expires,
            limited,
        },
    )
}

#[tokio::test]
async fn no_task_is_lost_and_no_attempt_ends_twice() {
    let env = TestEnv::new("model").await;
    let url = env.database_url.clone();
    tokio::task::spawn_blocking(move || try_histories(&url))
        .await
        .unwrap();
    env.finish().await;
}

fn try_histories(url: &str) {
    let mut connection = PgConnection::establish(url).unwrap();
    shared::db::migrate(&mut connection).unwrap();
    // Nothing here survives a crash of the server, so nothing waits for the disk.
    connection
        .batch_execute("SET synchronous_commit = off")
        .unwrap();
    let connection = std::cell::RefCell::new(connection);
    let mut config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => rand::random(),
    };
    config.rng_seed = RngSeed::Fixed(seed);
    let history = prop::collection::vec(op(), 1..100);
    let outcome = TestRunner::new(config).run(&history, |history| {
        play(&mut connection.borrow_mut(), &history)
    });
    if let Err(TestError::Fail(reason, history)) = outcome {
        panic!("PROPTEST_RNG_SEED={seed}: {reason}\nafter {history:#?}");
    }
    outcome.unwrap();
}

fn play(connection: &mut PgConnection, history: &[Op]) -> Result<(), TestCaseError> {
    let mut machine = Machine::new(connection);
    for op in history {
        machine.step(op)?;
    }
    machine.run_out()
}
