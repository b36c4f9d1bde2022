//! One look at the lines: who is called up, and when the next look is worth it.

use crate::{
    gate,
    queries::wake::{self, Called},
};
use diesel::{Connection, PgConnection, QueryResult};
use shared::{
    limits::{Bucket, BucketName, Policy},
    task::Queue,
};
use std::time::Duration;

/// Lines that are looked at in one round.
const LINES: i64 = 200;
/// Tasks called up from one line, or released from it, in one transaction.
const AT_ONCE: usize = 500;
/// Times that a line's head is looked at anew in one transaction, since nobody there waited any longer.
const LOOKS: usize = 20;
/// The shortest time between two rounds for the sake of a token: a rate beyond it needs a burst.
const SHORTEST: Duration = Duration::from_millis(5);

/// When the next round is worth it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// There are no lines.
    Nobody,
    Within(Duration),
}

impl Next {
    fn at_the_latest(&mut self, time: Duration) {
        *self = Self::Within(match *self {
            Self::Nobody => time,
            Self::Within(sooner) => sooner.min(time),
        });
    }
}

pub struct Round<'a> {
    policy: &'a Policy,
    /// Queues that take something here, and how much.
    open: Vec<(Queue, usize)>,
    next: Next,
}

impl<'a> Round<'a> {
    /// `open`: queues that take something here, and how much.
    pub fn new(policy: &'a Policy, open: Vec<(Queue, usize)>) -> Self {
        Self {
            policy,
            open,
            next: Next::Nobody,
        }
    }

    /// Looks at some lines, from the one behind `place` on, and gives those that are called up to `send`.
    pub fn run(
        mut self,
        connection: &mut PgConnection,
        place: &mut Option<BucketName>,
        mut send: impl FnMut(Vec<Called>),
    ) -> QueryResult<Next> {
        let lost = wake::lost(connection, LINES)?;
        let lines = wake::lines(connection, place.as_ref(), LINES)?;
        if lines.is_empty() && place.take().is_some() {
            // Those before it have their turn in the next round.
            self.next.at_the_latest(SHORTEST);
        }
        for line in &lost {
            send(self.look(connection, line)?);
        }
        for line in lines {
            self.next.at_the_latest(Duration::MAX);
            // Moved on first: a line that makes trouble must not keep the others from their turn.
            *place = Some(line);
            if let Some(line) = place.as_ref().filter(|line| !lost.contains(line)) {
                send(self.look(connection, line)?);
            }
        }
        Ok(self.next)
    }

    fn look(
        &mut self,
        connection: &mut PgConnection,
        line: &BucketName,
    ) -> QueryResult<Vec<Called>> {
        let has_limit = self.policy.allowance(line).is_some();
        if has_limit && self.open.is_empty() {
            return Ok(Vec::new());
        }
        let (called, soon) = connection.transaction(|connection| {
            if !wake::take_line(connection, line)? {
                return Ok((Vec::new(), None));
            }
            if has_limit {
                self.call_up(connection, line)
            } else {
                let left = wake::release(connection, line, AT_ONCE)?;
                Ok((Vec::new(), (left == AT_ONCE).then_some(Duration::ZERO)))
            }
        })?;
        if let Some(time) = soon {
            self.next.at_the_latest(time);
        }
        // Room in this process is used up once it is committed.
        for task in &called {
            for (_, free) in self
                .open
                .iter_mut()
                .filter(|(queue, _)| queue.as_str() == task.queue)
            {
                *free = free.saturating_sub(1);
            }
        }
        self.open.retain(|(_, free)| *free > 0);
        Ok(called)
    }

    /// The heads of a line, and how soon there is more to do.
    fn call_up(
        &self,
        connection: &mut PgConnection,
        line: &BucketName,
    ) -> QueryResult<(Vec<Called>, Option<Duration>)> {
        let mut buckets = gate::load(connection, self.policy, [line])?;
        let Some(mut bucket) = buckets.remove(line).map(|filled| filled.bucket) else {
            return Ok((Vec::new(), None));
        };
        let mut all = Vec::new();
        let mut more = false;
        for (queue, free) in &self.open {
            let room = usize::try_from(bucket.unclaimed_room()).unwrap_or(0);
            let limit = room.min(*free).min(AT_ONCE);
            if limit > 0 {
                let (called, is_cut) = heads(connection, line, *queue, limit)?;
                bucket.woken += i64::try_from(called.len()).unwrap_or(i64::MAX);
                more |= is_cut;
                all.extend(called);
            }
        }
        let soon = if more {
            Some(Duration::ZERO)
        } else {
            next_token(&bucket)
        };
        Ok((all, soon))
    }
}

/// True: they were cut short, and more may be done at once.
fn heads(
    connection: &mut PgConnection,
    line: &BucketName,
    queue: Queue,
    limit: usize,
) -> QueryResult<(Vec<Called>, bool)> {
    let mut all = Vec::new();
    let mut looked_at = limit;
    for _ in 0..LOOKS {
        let (called, stale) = wake::call_up(
            connection,
            line,
            queue.as_str(),
            looked_at,
            limit - all.len(),
        )?;
        all.extend(called);
        if stale == 0 || all.len() == limit {
            let is_cut = all.len() == AT_ONCE;
            return Ok((all, is_cut));
        }
        // A whole crowd may have been cancelled.
        looked_at = AT_ONCE;
    }
    Ok((all, true))
}

fn next_token(bucket: &Bucket) -> Option<Duration> {
    let seconds = bucket.seconds_to_token()?;
    let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    Some(time.max(SHORTEST))
}
