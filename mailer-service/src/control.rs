//! What people ask of this process, and what its tasks have to say meanwhile: a thread that looks into PostgreSQL
//! twice a second for running tasks that are to be cancelled, and writes their progress.
//!
//! Asking the database instead of listening to a broadcast means that no request is ever lost, whatever was down when
//! it was made; the question costs a look at the rows that run here.

use crate::{
    dispatcher::Common,
    progress::Board,
    queries::control::{self, WriteProgress},
    registry::Registry,
    settle,
};
use shared::{config::Config, db::Session, gate::Gate, kinds::KINDS, task::TaskId, threads};
use std::{thread::JoinHandle, time::Duration};
use tokio_util::sync::CancellationToken;

/// Progress is written at most so often.
const TICK: Duration = Duration::from_millis(250);
/// Ticks between two looks for what is to be cancelled.
const LOOK: u32 = 2;
/// Tasks woken in one tick.
const WOKEN_AT_ONCE: usize = 1000;

/// Starts the thread, which works from when `registered` opens until `stop`.
pub fn spawn(
    config: &Config,
    common: &Common,
    registered: Gate,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let control = Control {
        session: Session::new(&config.database),
        registry: common.registry.clone(),
        board: common.board.clone(),
        longest_park: settle::longest_park(Duration::from_secs(config.worker.park_s.into())),
    };
    threads::spawn("control", move || {
        if registered.wait() {
            control.run(&stop);
        }
    })
}

struct Control {
    session: Session,
    registry: Registry,
    board: Board,
    longest_park: Duration,
}

impl Control {
    fn run(mut self, stop: &CancellationToken) {
        let mut ticks = 0_u32;
        let mut all_awake = false;
        while threads::rest(stop, TICK) {
            self.write_progress();
            all_awake = all_awake || self.wake_parked();
            ticks = ticks.wrapping_add(1);
            if ticks.is_multiple_of(LOOK) && !self.registry.is_empty() {
                self.cancel();
            }
        }
    }

    /// This process may be the one that tasks of a new kind wait for. True: there are no more of them.
    fn wake_parked(&mut self) -> bool {
        let known: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        let limit = i64::try_from(WOKEN_AT_ONCE).unwrap_or(i64::MAX);
        let longest = self.longest_park;
        match self
            .session
            .run(|connection| control::wake_parked(connection, &known, longest, limit))
        {
            Ok(0) => true,
            Ok(count) => {
                tracing::info!("{count} tasks waited for a worker that knows their kind");
                count < WOKEN_AT_ONCE
            }
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "tasks that were put aside could not be woken yet"
                );
                false
            }
        }
    }

    fn cancel(&mut self) {
        let running = self.registry.tasks();
        match self
            .session
            .run(|connection| control::to_cancel(connection, &running))
        {
            Ok(keys) => {
                for (id, attempt) in keys {
                    self.registry.cancel((TaskId(id), attempt));
                }
            }
            // The loops that can't do without the database report its absence.
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                "cancellations could not be looked up"
            ),
        }
    }

    fn write_progress(&mut self) {
        let said = self.board.take();
        if said.is_empty() {
            return;
        }
        let mut statement = WriteProgress::default();
        for ((id, attempt), progress) in &said {
            statement.id.push(id.0);
            statement.attempt.push(*attempt);
            statement
                .progress
                .push(serde_json::to_string(progress).unwrap_or_else(|_| "null".into()));
        }
        if let Err(error) = self.session.run(|connection| statement.run(connection)) {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "progress could not be written"
            );
            self.board.put_back(said);
        }
    }
}
