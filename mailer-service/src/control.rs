//! What people ask of this process, and what its tasks have to say meanwhile: a thread that looks into PostgreSQL
//! twice a second for running tasks that are to be cancelled, and writes their progress and output.
//!
//! Asking the database instead of listening to a broadcast means that no request is ever lost, whatever was down when
//! it was made; the question costs a look at the rows that run here.

use crate::{
    dispatcher::Common,
    progress::{Board, Word},
    queries::{
        control::{self, Written},
        output::MakeRoom,
    },
    registry::Registry,
};
use shared::{
    config::Config,
    db::{DbError, Session, is_about_data},
    gate::Gate,
    task::TaskId,
    threads,
};
use std::{
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Between two looks for what is due to be written.
const TICK: Duration = Duration::from_millis(50);
/// Ticks between two looks for what is to be cancelled.
const LOOK: u32 = 10;

/// Starts the thread, which works from when `registered` opens until `stop`.
pub fn spawn(
    config: &Config,
    common: &Common,
    registered: Gate,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let control = Control {
        session: Session::new(&config.database).by_key(),
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
            let due = self.board.due(Instant::now());
            self.write(due);
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

    fn write(&mut self, mut words: Vec<Word>) {
        if words.is_empty() {
            return;
        }
        match self
            .session
            .run(|connection| control::write(connection, &words))
        {
            Ok(written) => self.note(words, written),
            // One that PostgreSQL refuses must not hold up the others.
            Err(DbError::Refused(error)) if is_about_data(&error) => {
                if let [only] = words.as_slice() {
                    let (id, attempt) = only.key;
                    tracing::error!(
                        task.id = %id, task.attempt = attempt, error = &error as &dyn std::error::Error,
                        "progress or output of a task could not be written and is dropped"
                    );
                    self.board.refuse(only.key);
                    return;
                }
                let right = words.split_off(words.len() / 2);
                self.write(words);
                self.write(right);
            }
            // The loops that can't do without the database report its absence.
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "progress and output could not be written yet"
                );
                self.board.put_back(words);
            }
        }
    }

    fn note(&mut self, words: Vec<Word>, written: Written) {
        self.board.written(&words, &written.keys);
        self.board.forget(written.fenced);
        let mut room = MakeRoom::default();
        for word in words.iter().filter(|word| written.keys.contains(&word.key)) {
            if let Some(chunk) = &word.chunk {
                room.push(word.key, chunk);
            }
        }
        let most = self.board.limits().most;
        if let Err(error) = self.session.run(|connection| room.run(connection, most)) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the output of earlier attempts was not shortened; the next attempt does it"
            );
        }
        let is_left = |word: &Word| !written.keys.contains(&word.key);
        self.board
            .put_back(words.into_iter().filter(is_left).collect());
    }
}
