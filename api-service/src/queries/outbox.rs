//! Outbox rows that were not published by whoever wrote them.

use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    sql_types::{Array, BigInt, Double, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use shared::{outbox::OutboxRow, statement};

/// The columns of an [`OutboxRow`], in order.
pub type OutboxColumns = (
    SqlUuid,
    SqlUuid,
    Integer,
    Text,
    Text,
    Text,
    Text,
    Nullable<Text>,
    Timestamptz,
    Integer,
);

statement! {
    /// Takes overdue rows for one more try. The new `publish_after` keeps other replicas off them.
    pub struct TakeOverdue -> OutboxColumns {
        again_seconds: Double = f64,
        limit: BigInt = i64,
    }
    "UPDATE outbox SET publish_after = now() + make_interval(secs => ?), tries = tries + 1
     WHERE id IN (
        SELECT id FROM outbox WHERE publish_after <= now()
        ORDER BY id LIMIT ? FOR UPDATE SKIP LOCKED)
     RETURNING id, task_id, attempt, kind, lane, exchange, routing_key, traceparent, publish_after, tries"
}

statement! {
    /// Hands due tasks (SCHEDULED, or RETRYING after a long wait) over to RabbitMQ.
    pub struct PromoteDue -> OutboxColumns {
        limit: BigInt = i64,
        exchange: Text = &'static str,
        relay_seconds: Double = f64,
    }
    "WITH due AS (
        SELECT id FROM tasks WHERE due_at <= now() ORDER BY due_at LIMIT ? FOR UPDATE SKIP LOCKED
     ), moved AS (
        UPDATE tasks SET due_at = NULL, updated_at = now(),
            status = CASE status WHEN 'SCHEDULED' THEN 'PENDING' ELSE status END
        FROM due WHERE tasks.id = due.id
        RETURNING tasks.id, status, attempt, kind, queue, lane, traceparent
     )
     INSERT INTO outbox (id, task_id, attempt, kind, lane, exchange, routing_key, traceparent, publish_after)
     SELECT gen_random_uuid(), id, attempt + 1, kind, lane, ?, queue || '.' || lane, traceparent,
        now() + make_interval(secs => ?)
     FROM moved WHERE status IN ('PENDING', 'RETRYING')
     RETURNING id, task_id, attempt, kind, lane, exchange, routing_key, traceparent, publish_after, tries"
}

statement! {
    /// Publishes again what waits in these lanes (`<queue>.<lane>`, whose queues are empty) for long and has
    /// no outbox row. Reads every live task, so it is for now and then.
    pub struct RequeueLost -> OutboxColumns {
        lanes: Array<Text> = Vec<String>,
        lost_after_seconds: Double = f64,
        limit: BigInt = i64,
        exchange: Text = &'static str,
        relay_seconds: Double = f64,
    }
    "WITH lost AS (
        SELECT id FROM tasks
        WHERE finished_at IS NULL AND due_at IS NULL AND status IN ('PENDING', 'RETRYING')
            AND queue || '.' || lane = ANY(?)
            AND GREATEST(updated_at, next_attempt_at, requeued_at) < now() - make_interval(secs => ?)
            AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.task_id = tasks.id)
        ORDER BY id LIMIT ? FOR UPDATE SKIP LOCKED
     ), marked AS (
        UPDATE tasks SET requeued_at = now() FROM lost WHERE tasks.id = lost.id
        RETURNING tasks.id, attempt, kind, queue, lane, traceparent
     )
     INSERT INTO outbox (id, task_id, attempt, kind, lane, exchange, routing_key, traceparent, publish_after)
     SELECT gen_random_uuid(), id, attempt + 1, kind, lane, ?, queue || '.' || lane, traceparent,
        now() + make_interval(secs => ?)
     FROM marked
     RETURNING id, task_id, attempt, kind, lane, exchange, routing_key, traceparent, publish_after, tries"
}

/// After the broker lost its data: every waiting task that has no outbox row gets one. Tasks that were in
/// a delay tier go back to PostgreSQL, which wakes them when they are due. Returns how many messages.
pub fn republish_all(connection: &mut PgConnection, exchange: &str) -> QueryResult<usize> {
    diesel::sql_query("SET LOCAL statement_timeout = 0").execute(connection)?;
    diesel::sql_query(
        "UPDATE tasks SET due_at = next_attempt_at
         WHERE finished_at IS NULL AND due_at IS NULL AND status = 'RETRYING' AND next_attempt_at > now() + interval '1 second'",
    )
    .execute(connection)?;
    diesel::sql_query(
        "INSERT INTO outbox (id, task_id, attempt, kind, lane, exchange, routing_key, traceparent, publish_after)
         SELECT gen_random_uuid(), id, attempt + 1, kind, lane, $1, queue || '.' || lane, traceparent, now()
         FROM tasks
         WHERE finished_at IS NULL AND due_at IS NULL AND status IN ('PENDING', 'RETRYING')
            AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.task_id = tasks.id)",
    )
    .bind::<Text, _>(exchange)
    .execute(connection)
}

/// How many messages wait for their confirm, up to `limit`, and how long the oldest has been overdue (s).
pub fn overdue(connection: &mut PgConnection) -> QueryResult<(i64, f64)> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        count: i64,
        #[diesel(sql_type = Double)]
        seconds: f64,
    }
    let row: Row = diesel::sql_query(
        "SELECT count(*), COALESCE(EXTRACT(EPOCH FROM now() - min(publish_after)), 0)::float8 AS seconds
         FROM (SELECT publish_after FROM outbox WHERE tries > 0 OR publish_after < now() LIMIT 10000) AS late",
    )
    .get_result(connection)?;
    Ok((row.count, row.seconds))
}

/// Runs one of the statements above.
macro_rules! rows {
    ($statement:ident) => {
        impl $statement {
            pub fn run(&self, connection: &mut PgConnection) -> QueryResult<Vec<OutboxRow>> {
                self.load(connection)
            }
        }
    };
}
rows!(TakeOverdue);
rows!(PromoteDue);
rows!(RequeueLost);
