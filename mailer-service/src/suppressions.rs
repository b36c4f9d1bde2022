//! Who gets no mails, as this process knows it: a filter in memory that a thread of its own reads anew every second, and
//! the table, by the same thread, where the filter says "perhaps".

use shared::{
    address::EmailAddress,
    config::Config,
    db::Session,
    pepper::Peppers,
    suppression::{About, Filter, Reader, forms, rows},
    threads,
};
use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

const EVERY: Duration = Duration::from_secs(1);

/// The database can't be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable;

/// A handle to the thread; clones share the filter.
#[derive(Debug, Clone)]
pub struct Suppressions {
    filter: Filter,
    peppers: Peppers,
    asked: Sender<Request>,
}

#[derive(Debug)]
struct Request {
    forms: Vec<String>,
    answer: oneshot::Sender<Result<Vec<rows::Blocking>, Unavailable>>,
}

impl Suppressions {
    /// Starts the thread; it ends when every handle is gone.
    pub fn spawn(config: &Config, peppers: Peppers) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (asked, requests) = channel();
        let filter = Filter::default();
        let reader = Reader::new(filter.clone());
        let session = Session::new(&config.database);
        let thread = threads::spawn("suppressions", move || run(session, reader, &requests))?;
        let suppressions = Self {
            filter,
            peppers,
            asked,
        };
        Ok((suppressions, thread))
    }

    pub fn filter(&self) -> Filter {
        self.filter.clone()
    }

    /// Why the address may have no mail of this sort; none: it may.
    pub async fn why(
        &self,
        address: &EmailAddress,
        about: About<'_>,
    ) -> Result<Option<String>, Unavailable> {
        let forms = forms(address, &self.peppers);
        if !self.filter.may_hold(&forms) {
            return Ok(None);
        }
        let (answer, found) = oneshot::channel();
        // Without anybody there, the process stops.
        let _stopping = self.asked.send(Request { forms, answer });
        let rows = found.await.unwrap_or(Err(Unavailable))?;
        let row = rows.into_iter().find(|row| row.concerns(about));
        Ok(row.map(|row| row.reason))
    }
}

fn run(mut session: Session, mut reader: Reader, requests: &Receiver<Request>) {
    let mut due = Instant::now();
    loop {
        if due <= Instant::now() {
            if let Err(error) = session.run(|connection| reader.read(connection)) {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the suppressions could not be read; the last known ones are used"
                );
            }
            due = Instant::now() + EVERY;
        }
        match requests.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(first) => answer(&mut session, first, requests),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// All that wait, by one look.
fn answer(session: &mut Session, first: Request, requests: &Receiver<Request>) {
    let all: Vec<_> = std::iter::once(first).chain(requests.try_iter()).collect();
    let forms: Vec<String> = all
        .iter()
        .flat_map(|request| request.forms.iter().cloned())
        .collect();
    let found = session.run(|connection| rows::blocking(connection, &forms));
    if let Err(error) = &found {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "the suppressions could not be asked; mails wait"
        );
    }
    for Request { forms, answer } in all {
        let found = found.as_ref().map_err(|_| Unavailable);
        let own = |row: &&rows::Blocking| forms.contains(&row.address);
        let own = found.map(|rows| rows.iter().filter(own).cloned().collect());
        // Who has gone meanwhile asks again.
        let _gone = answer.send(own);
    }
}
