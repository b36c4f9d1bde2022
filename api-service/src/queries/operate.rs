//! What operators do to tasks. Each statement changes a task only while its state allows that, so an operator and a
//! worker can't both have their way with it.

use super::{
    audit::{self, Entry},
    outbox::OutboxColumns,
};
use diesel::{
    Connection, ExpressionMethods, PgConnection, QueryDsl, QueryResult, RunQueryDsl,
    sql_types::{Array, Double, Text, Uuid as SqlUuid},
};
use shared::{
    outbox::OutboxRow,
    schema::tasks,
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
    }
    "UPDATE tasks SET
        status = CASE status WHEN 'PROCESSING' THEN status ELSE 'CANCELLED' END,
        finished_at = CASE status WHEN 'PROCESSING' THEN NULL ELSE now() END,
        cancel_requested_at = COALESCE(cancel_requested_at, now()),
        due_at = NULL, next_attempt_at = NULL, updated_at = now()
     WHERE id = ANY(?) AND finished_at IS NULL
     RETURNING id, status"
}

statement! {
    /// Another round: as many attempts as the task was accepted with, from now. One that waits for its time does not
    /// wait any longer, and keeps its count.
    struct Replay -> OutboxColumns {
        ids: Array<SqlUuid> = Vec<Uuid>,
        exchange: Text = &'static str,
        relay_seconds: Double = f64,
    }
    "WITH replayed AS (
        UPDATE tasks SET
            status = 'PENDING', finished_at = NULL, due_at = NULL, next_attempt_at = NULL, cancel_requested_at = NULL,
            progress = NULL, updated_at = now(),
            useful_until = CASE WHEN useful_until > now() THEN useful_until END,
            max_attempts = CASE WHEN finished_at IS NULL THEN max_attempts ELSE attempt + max_attempts - forgiven END,
            forgiven = CASE WHEN finished_at IS NULL THEN forgiven ELSE attempt END
        WHERE id = ANY(?) AND status IN ('FAILED', 'CANCELLED', 'EXPIRED', 'UNKNOWN', 'RETRYING', 'SCHEDULED')
        RETURNING id, attempt, kind, queue, lane, traceparent
     )
     INSERT INTO outbox (id, task_id, attempt, kind, lane, exchange, routing_key, traceparent, publish_after)
     SELECT gen_random_uuid(), id, attempt + 1, kind, lane, ?, queue || '.' || lane, traceparent,
        now() + make_interval(secs => ?)
     FROM replayed
     RETURNING id, task_id, attempt, kind, lane, exchange, routing_key, traceparent, publish_after, tries"
}

statement! {
    /// A person knows what became of a task.
    struct Resolve -> (SqlUuid,) {
        status: Text = &'static str,
        id: SqlUuid = Uuid,
    }
    "UPDATE tasks SET status = ?, finished_at = now(), updated_at = now()
     WHERE id = ? AND status = 'UNKNOWN' RETURNING id"
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
    ids: Vec<Uuid>,
    entry: &Entry<'_>,
) -> QueryResult<Cancelled> {
    let statement = Cancel { ids };
    connection.transaction(|connection| {
        let rows: Vec<(Uuid, String)> = (&statement).load(connection)?;
        if !rows.is_empty() {
            audit::insert(connection, entry)?;
        }
        let is_running = |status: &str| status == Status::Processing.as_str();
        Ok(Cancelled {
            changed: rows.len(),
            running: rows.iter().filter(|(_, status)| is_running(status)).count(),
        })
    })
}

/// Has those of the tasks run again that are final without success, and at once those that wait for a time. Their
/// messages are committed.
pub fn replay(
    connection: &mut PgConnection,
    ids: Vec<Uuid>,
    patience: Duration,
    entry: &Entry<'_>,
) -> QueryResult<Vec<OutboxRow>> {
    let statement = Replay {
        ids,
        exchange: topology::TASKS,
        relay_seconds: patience.as_secs_f64(),
    };
    connection.transaction(|connection| {
        let rows: Vec<OutboxRow> = (&statement).load(connection)?;
        if !rows.is_empty() {
            audit::insert(connection, entry)?;
        }
        Ok(rows)
    })
}

/// As [`replay`], for a task that must be UNKNOWN: a person has looked at that state.
pub fn replay_unknown(
    connection: &mut PgConnection,
    id: TaskId,
    patience: Duration,
    entry: &Entry<'_>,
) -> QueryResult<Vec<OutboxRow>> {
    connection.transaction(|connection| {
        let unknown: Vec<Uuid> = tasks::table
            .filter(tasks::id.eq(id.0))
            .filter(tasks::status.eq(Status::Unknown.as_str()))
            .select(tasks::id)
            .for_update()
            .load(connection)?;
        replay(connection, unknown, patience, entry)
    })
}

/// Makes an UNKNOWN task COMPLETED or FAILED; false when it is not UNKNOWN.
pub fn resolve(
    connection: &mut PgConnection,
    id: TaskId,
    status: Status,
    entry: &Entry<'_>,
) -> QueryResult<bool> {
    let statement = Resolve {
        status: status.as_str(),
        id: id.0,
    };
    connection.transaction(|connection| {
        let rows: Vec<(Uuid,)> = (&statement).load(connection)?;
        if !rows.is_empty() {
            audit::insert(connection, entry)?;
        }
        Ok(!rows.is_empty())
    })
}
