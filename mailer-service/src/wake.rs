//! Calls up tasks from the lines of the limits as room falls free: those that this process has slots for go straight to
//! its dispatchers, in front of what waits there, without another turn through RabbitMQ.
//!
//! Until its claim, a task that was called up stays in its line, marked; if its caller dies, it is called again.

use crate::{
    dispatcher::Event,
    gate,
    load::Loads,
    queries::wake::{self, Called},
};
use diesel::{Connection, PgConnection, QueryResult};
use shared::{
    envelope::Envelope,
    limits::{BucketName, Policy},
    task::{Lane, Queue, TaskId},
};
use std::sync::mpsc::Sender;

/// Lines that are looked at in one round.
const LINES: i64 = 200;
/// Tasks called up from one line, or released from it, in one transaction.
const AT_ONCE: i64 = 500;

/// Where tasks that are called up go.
#[derive(Debug, Clone)]
pub struct Doors {
    pub queues: Vec<(Queue, Sender<Event>)>,
    pub loads: Loads,
}

impl Doors {
    /// Queues that are consumed here, not paused, and have room.
    fn open(&self, policy: &Policy) -> Vec<(Queue, usize)> {
        self.queues
            .iter()
            .map(|(queue, _)| *queue)
            .filter(|queue| !policy.paused_queues.contains(queue))
            .map(|queue| (queue, self.loads.room(queue)))
            .filter(|(_, free)| *free > 0)
            .collect()
    }

    /// What no dispatcher takes is called again by somebody else.
    fn send(&self, called: Called) {
        let (Some(queue), Some(lane)) = (Queue::parse(&called.queue), Lane::parse(&called.lane))
        else {
            return;
        };
        let envelope = Envelope {
            id: TaskId(called.id),
            kind: called.kind,
            attempt: called.attempt,
            lane,
        };
        for (_, events) in self.queues.iter().filter(|(one, _)| *one == queue) {
            // Counted first: the dispatcher may begin it in this moment.
            self.loads.called(queue);
            if events.send(Event::CalledUp(envelope.clone())).is_err() {
                self.loads.begun(queue);
            }
        }
    }
}

/// One round. True: there are lines, so another will be needed.
pub fn round(connection: &mut PgConnection, policy: &Policy, doors: &Doors) -> QueryResult<bool> {
    let lines = wake::lines(connection, LINES)?;
    let mut open = doors.open(policy);
    for line in &lines {
        let called = connection.transaction(|connection| {
            if policy.allowance(line).is_some() {
                call_up(connection, policy, line, &open)
            } else {
                release(connection, line)
            }
        })?;
        for task in called {
            for (queue, free) in &mut open {
                if queue.as_str() == task.queue {
                    *free = free.saturating_sub(1);
                }
            }
            doors.send(task);
        }
        open.retain(|(_, free)| *free > 0);
    }
    Ok(!lines.is_empty())
}

fn call_up(
    connection: &mut PgConnection,
    policy: &Policy,
    line: &BucketName,
    open: &[(Queue, usize)],
) -> QueryResult<Vec<Called>> {
    let free: usize = open.iter().map(|(_, free)| free).sum();
    if free == 0 {
        return Ok(Vec::new());
    }
    let Some(back) = wake::take_line(connection, line)? else {
        return Ok(Vec::new());
    };
    let buckets = gate::load(connection, policy, [line])?;
    let room = buckets
        .get(line)
        .map_or(0, |bucket| bucket.room() - bucket.woken);
    let limit = room
        .min(AT_ONCE)
        .min(i64::try_from(free).unwrap_or(AT_ONCE));
    if limit <= 0 {
        wake::shorten(connection, line, -back, false)?;
        return Ok(Vec::new());
    }
    let queues: Vec<_> = open.iter().map(|(queue, _)| queue.as_str()).collect();
    let all = queues.len() == Queue::ALL.len();
    let (called, left) = wake::call_up(connection, line, queues, limit)?;
    wake::shorten(connection, line, left - back, all && left < limit)?;
    Ok(called)
}

fn release(connection: &mut PgConnection, line: &BucketName) -> QueryResult<Vec<Called>> {
    let Some(back) = wake::take_line(connection, line)? else {
        return Ok(Vec::new());
    };
    let left = wake::release(connection, line, AT_ONCE)?;
    wake::shorten(connection, line, left - back, left < AT_ONCE)?;
    Ok(Vec::new())
}
