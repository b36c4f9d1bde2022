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
};
use shared::{config::Config, db::Session, gate::Gate, task::TaskId, threads};
use std::{thread::JoinHandle, time::Duration};
use tokio_util::sync::CancellationToken;

/// Progress is written at most so often.
const TICK: Duration = Duration::from_millis(250);
/// Ticks between two looks for what is to be cancelled.
const LOOK: u32 = 2;

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
}

impl Control {
    fn run(mut self, stop: &CancellationToken) {
        let mut ticks = 0_u32;
        while threads::rest(stop, TICK) {
            self.write_progress();
            ticks = ticks.wrapping_add(1);
            if ticks.is_multiple_of(LOOK) && !self.registry.is_empty() {
                self.cancel();
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
