//! What operators do to tasks. Each statement changes a task only while its state allows that, so an operator and a
//! worker can't both have their way with it.

use super::{
    audit::{self, Deed},
    outbox::OutboxColumns,
};
use chrono::{DateTime, Utc};
use diesel::{
    Connection, PgConnection, QueryResult, RunQueryDsl,
    sql_types::{Array, Double, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use shared::{
    db::is_passing,
    outbox::OutboxRow,
    statement,
    task::{Status, TaskId},
    topology,
};
use std::time::Duration;
use uuid::Uuid;

statement! {
    /// A waiting task ends at once. One that runs is noted; its worker sees that and tells the handler.
    struct Cancel -> (SqlUuid, Text) {
        ids: Array<SqlUuid> = Vec<Uuid>,
        statuses: Array<Text> = Vec<&'static str>,
    }
    "WITH chosen AS (
        SELECT id FROM tasks WHERE id = ANY(?) AND status = ANY(?) AND finished_at IS NULL ORDER BY id FOR UPDATE
     )
     UPDATE tasks SET
        status = CASE status WHEN 'PROCESSING' THEN status ELSE 'CANCELLED' END,
        finished_at = CASE status WHEN 'PROCESSING' THEN NULL ELSE now() END,
        cancel_requested_at = COALESCE(cancel_requested_at, now()),
        -- What is to go with its task's end.
        payload = CASE WHEN status <> 'PROCESSING' AND content_ttl_s = 0 THEN without_content(payload) ELSE payload END,
        content_ttl_s = CASE WHEN status <> 'PROCESSING' AND content_ttl_s = 0 THEN -1 ELSE content_ttl_s END,
        due_at = NULL, next_attempt_at = NULL, updated_at = now()
     FROM chosen WHERE tasks.id = chosen.id
     RETURNING tasks.id, status"
}

statement! {
    /// Another round: as many attempts as the task was accepted with, from now. One that waits for its time does not
    /// wait any longer, and keeps its count.
    struct Replay -> OutboxColumns {
        ids: Array<SqlUuid> = Vec<Uuid>,
        statuses: Array<Text> = Vec<&'static str>,
        exchange: Text = &'static str,
        relay_seconds: Double = f64,
    }
    "WITH chosen AS (
        -- What an endpoint of its own makes, it makes anew: a code is sent again by its resend, if at all.
        SELECT id FROM tasks WHERE id = ANY(?) AND status = ANY(?) AND (kind <> 'email.code' OR finished_at IS NULL)
        ORDER BY id FOR UPDATE
     ), replayed AS (
        UPDATE tasks SET
            status = 'PENDING', finished_at = NULL, due_at = NULL, next_attempt_at = NULL, cancel_requested_at = NULL,
            progress = NULL, updated_at = now(),
            result_ttl_s = CASE WHEN result_ttl_s < 0 THEN ~result_ttl_s ELSE result_ttl_s END,
            -- A mail is dated by this.
            run_at = CASE WHEN run_at > now() THEN now() ELSE run_at END,
            useful_until = CASE WHEN useful_until > now() THEN useful_until END,
            max_attempts = CASE WHEN finished_at IS NULL THEN max_attempts ELSE attempt + max_attempts - forgiven END,
            forgiven = CASE WHEN finished_at IS NULL THEN forgiven ELSE attempt END
        FROM chosen WHERE tasks.id = chosen.id
        RETURNING tasks.id, attempt, kind, queue, lane, traceparent
     )
     INSERT INTO outbox (id, task_id, attempt, kind, lane, exchange, routing_key, traceparent, publish_after)
     SELECT gen_random_uuid(), id, attempt + 1, kind, lane, ?, queue || '.' || lane, traceparent,
        now() + make_interval(secs => ?)
     FROM replayed
     RETURNING id, task_id, attempt, kind, lane, exchange, routing_key, traceparent, publish_after, tries"
}

statement! {
    /// Another time for a task that nobody has claimed. A message of it that is under way claims nothing.
    struct Reschedule -> (SqlUuid,) {
        run_at: Timestamptz = DateTime<Utc>,
        due_at: Timestamptz = DateTime<Utc>,
        id: SqlUuid = Uuid,
        start: Timestamptz = DateTime<Utc>,
    }
    "UPDATE tasks SET status = 'SCHEDULED', run_at = ?, due_at = ?, next_attempt_at = NULL, updated_at = now()
     WHERE id = ? AND status IN ('SCHEDULED', 'PENDING') AND COALESCE(useful_until > ?, true) RETURNING id"
}

statement! {
    /// Until when a task that nobody has claimed is of use.
    struct UsefulUntil -> (Nullable<Timestamptz>,) { id: SqlUuid = Uuid }
    "SELECT useful_until FROM tasks WHERE id = ? AND status IN ('SCHEDULED', 'PENDING')"
}

statement! {
    /// A person knows what became of a task.
    struct Resolve -> (SqlUuid,) {
        status: Text = &'static str,
        id: SqlUuid = Uuid,
    }
    "WITH found AS (SELECT ?::text AS status)
     UPDATE tasks SET status = found.status, finished_at = now(), updated_at = now(),
        error_code = CASE found.status WHEN 'FAILED' THEN error_code END,
        error_message = CASE found.status WHEN 'FAILED' THEN error_message END
     FROM found WHERE id = ? AND tasks.status = 'UNKNOWN' RETURNING id"
}

/// What can be cancelled.
pub const LIVE: [Status; 4] = [
    Status::Scheduled,
    Status::Pending,
    Status::Processing,
    Status::Retrying,
];

/// What can be run again, or at once.
pub const REPLAYABLE: [Status; 6] = [
    Status::Failed,
    Status::Cancelled,
    Status::Expired,
    Status::Unknown,
    Status::Retrying,
    Status::Scheduled,
];

/// What has ended and can be run again.
pub const ENDED: [Status; 4] = [
    Status::Failed,
    Status::Cancelled,
    Status::Expired,
    Status::Unknown,
];

/// Tasks, and the states that they must still be in.
#[derive(Debug, Clone)]
pub struct Chosen {
    pub ids: Vec<Uuid>,
    pub statuses: Vec<Status>,
}

impl Chosen {
    pub fn one(id: TaskId, statuses: &[Status]) -> Self {
        Self {
            ids: vec![id.0],
            statuses: statuses.to_vec(),
        }
    }

    fn statuses(&self) -> Vec<&'static str> {
        self.statuses.iter().map(|status| status.as_str()).collect()
    }
}

/// How often a transaction that a worker's got in the way of is tried.
const TRIES: u32 = 5;

/// Deeds on many rows can meet a settlement or a claim in a deadlock, which ends one of them; this one is tried again.
pub(super) fn persistently<T>(
    connection: &mut PgConnection,
    mut work: impl FnMut(&mut PgConnection) -> QueryResult<T>,
) -> QueryResult<T> {
    for _ in 1..TRIES {
        match connection.transaction(&mut work) {
            Err(error) if is_passing(&error) => {}
            outcome => return outcome,
        }
    }
    connection.transaction(work)
}

/// How many tasks were changed, and how many of them still run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cancelled {
    pub changed: usize,
    pub running: usize,
}

/// Cancels those of the tasks that are not final.
pub fn cancel(
    connection: &mut PgConnection,
    chosen: &Chosen,
    deed: &Deed<'_>,
) -> QueryResult<Cancelled> {
    let statement = Cancel {
        ids: chosen.ids.clone(),
        statuses: chosen.statuses(),
    };
    persistently(connection, |connection| {
        let rows: Vec<(Uuid, String)> = (&statement).load(connection)?;
        let changed: Vec<Uuid> = rows.iter().map(|(id, _)| *id).collect();
        audit::note(connection, deed, &changed)?;
        let is_running = |status: &str| status == Status::Processing.as_str();
        Ok(Cancelled {
            changed: rows.len(),
            running: rows.iter().filter(|(_, status)| is_running(status)).count(),
        })
    })
}

/// Cancels those of the tasks that are not final, of a person who is erased; the audit log has that.
pub(super) fn cancel_for_erasure(connection: &mut PgConnection, ids: Vec<Uuid>) -> QueryResult<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let statement = Cancel {
        ids,
        statuses: LIVE.map(Status::as_str).to_vec(),
    };
    let _changed: Vec<(Uuid, String)> = (&statement).load(connection)?;
    Ok(())
}

/// Has those of the tasks run again that are final without success, and at once those that wait for a time. Their
/// messages are committed.
pub fn replay(
    connection: &mut PgConnection,
    chosen: &Chosen,
    patience: Duration,
    deed: &Deed<'_>,
) -> QueryResult<Vec<OutboxRow>> {
    let statement = Replay {
        ids: chosen.ids.clone(),
        statuses: chosen.statuses(),
        exchange: topology::TASKS,
        relay_seconds: patience.as_secs_f64(),
    };
    persistently(connection, |connection| {
        let rows: Vec<OutboxRow> = (&statement).load(connection)?;
        let changed: Vec<Uuid> = rows.iter().map(|row| row.task_id).collect();
        audit::note(connection, deed, &changed)?;
        Ok(rows)
    })
}

/// What became of a wish for another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rescheduled {
    Done,
    /// By then it would be of no use any more.
    TooLate {
        useful_until: DateTime<Utc>,
    },
    /// It does not wait for its first attempt.
    NotWaiting,
}

/// Puts off, or forward, a task that waits for its first attempt.
pub fn reschedule(
    connection: &mut PgConnection,
    id: TaskId,
    run_at: DateTime<Utc>,
    deed: &Deed<'_>,
) -> QueryResult<Rescheduled> {
    let statement = Reschedule {
        run_at,
        due_at: run_at,
        id: id.0,
        start: run_at,
    };
    connection.transaction(|connection| {
        let rows: Vec<(Uuid,)> = (&statement).load(connection)?;
        let changed: Vec<Uuid> = rows.into_iter().map(|(id,)| id).collect();
        audit::note(connection, deed, &changed)?;
        if !changed.is_empty() {
            return Ok(Rescheduled::Done);
        }
        let limits: Vec<(Option<DateTime<Utc>>,)> = (&UsefulUntil { id: id.0 }).load(connection)?;
        let limit = limits.first().and_then(|(useful_until,)| *useful_until);
        Ok(limit.map_or(Rescheduled::NotWaiting, |useful_until| {
            Rescheduled::TooLate { useful_until }
        }))
    })
}

/// Makes an UNKNOWN task COMPLETED or FAILED; false when it is not UNKNOWN.
pub fn resolve(
    connection: &mut PgConnection,
    id: TaskId,
    status: Status,
    deed: &Deed<'_>,
) -> QueryResult<bool> {
    let statement = Resolve {
        status: status.as_str(),
        id: id.0,
    };
    connection.transaction(|connection| {
        let rows: Vec<(Uuid,)> = (&statement).load(connection)?;
        let changed: Vec<Uuid> = rows.into_iter().map(|(id,)| id).collect();
        audit::note(connection, deed, &changed)?;
        Ok(!changed.is_empty())
    })
}
