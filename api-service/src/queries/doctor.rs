//! What the doctor asks and repairs.

use crate::doctor::rows::{RowCheck, Table};
use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Double, Text},
};
use shared::{task::UNKNOWN_KIND, topology};

/// Rows repaired by one statement.
pub const BATCH: i64 = 1000;
/// Counting ends here.
pub const MANY: i64 = 10_000;
const SAMPLES: i64 = 5;

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct NamedCount {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// How many rows meet the condition, up to [`MANY`].
pub(crate) fn count(connection: &mut PgConnection, check: &RowCheck) -> QueryResult<i64> {
    let (from, condition) = (check.table.from(), &check.condition);
    let sql =
        format!("SELECT count(*) FROM (SELECT 1 FROM {from} ({condition}) LIMIT {MANY}) AS found");
    let row: Count = diesel::sql_query(sql).get_result(connection)?;
    Ok(row.count)
}

/// What some of them are known by.
pub(crate) fn samples(connection: &mut PgConnection, check: &RowCheck) -> QueryResult<Vec<String>> {
    let (from, condition) = (check.table.from(), &check.condition);
    let sample = check.table.sample();
    let sql = format!("SELECT {sample} AS name FROM {from} ({condition}) LIMIT {SAMPLES}");
    let rows: Vec<Name> = diesel::sql_query(sql).load(connection)?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

/// All checks of one table at one look, without a limit.
pub(crate) fn counts(
    connection: &mut PgConnection,
    checks: &[RowCheck],
    table: Table,
) -> QueryResult<Vec<(String, i64)>> {
    let checks = checks.iter().filter(|check| check.table == table);
    let (names, counts): (Vec<String>, Vec<String>) = checks
        .map(|check| {
            let name = format!("'{}'", check.name);
            let count = format!("count(*) FILTER (WHERE {})", check.condition);
            (name, count)
        })
        .unzip();
    let sql = format!(
        "SELECT unnest(ARRAY[{}]) AS name, unnest(ARRAY[{}]) AS count FROM {} true",
        names.join(", "),
        counts.join(", "),
        table.from()
    );
    let rows: Vec<NamedCount> = diesel::sql_query(sql).load(connection)?;
    Ok(rows.into_iter().map(|row| (row.name, row.count)).collect())
}

/// Puts one batch right by an assignment. Rows that somebody is at work on are left to the next.
pub(crate) fn set(
    connection: &mut PgConnection,
    check: &RowCheck,
    assignments: &str,
) -> QueryResult<usize> {
    let what = format!("UPDATE {} SET {assignments}", check.table.name());
    change(connection, check, &what)
}

pub(crate) fn delete(connection: &mut PgConnection, check: &RowCheck) -> QueryResult<usize> {
    change(
        connection,
        check,
        &format!("DELETE FROM {}", check.table.name()),
    )
}

fn change(connection: &mut PgConnection, check: &RowCheck, what: &str) -> QueryResult<usize> {
    let (from, condition) = (check.table.from(), &check.condition);
    let (key, of_t) = check.table.key();
    diesel::sql_query(format!(
        "{what} WHERE {key} IN (
            SELECT {of_t} FROM {from} ({condition}) LIMIT {BATCH} FOR UPDATE OF t SKIP LOCKED)"
    ))
    .execute(connection)
}

/// Outbox rows off the routes: those of the next attempt of a waiting task in a known queue go to its lane, those that
/// would claim nothing are deleted.
pub(crate) fn reroute(
    connection: &mut PgConnection,
    routes: &str,
    queues: &str,
) -> QueryResult<usize> {
    let useful = "tasks.status IN ('PENDING', 'RETRYING') AND tasks.attempt = t.attempt - 1";
    let moved = diesel::sql_query(format!(
        "UPDATE outbox AS t SET exchange = $1, routing_key = tasks.queue || '.' || tasks.lane, publish_after = now(), tries = 0
         FROM tasks
         WHERE tasks.id = t.task_id AND {useful} AND tasks.queue IN ({queues}) AND NOT ({routes})"
    ))
    .bind::<Text, _>(topology::TASKS)
    .execute(connection)?;
    let deleted = diesel::sql_query(format!(
        "DELETE FROM outbox AS t WHERE NOT ({routes})
            AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id = t.task_id AND {useful})"
    ))
    .execute(connection)?;
    Ok(moved + deleted)
}

/// What the tasks of a lane wait for.
#[derive(Debug, Clone, QueryableByName, PartialEq, Eq)]
pub struct LaneRow {
    #[diesel(sql_type = Text)]
    pub queue: String,
    #[diesel(sql_type = Text)]
    pub lane: String,
    /// Without outbox row and due time, for longer than any message should take.
    #[diesel(sql_type = BigInt)]
    pub waiting: i64,
    /// Likewise, until a time in the future: their messages are in delay tiers.
    #[diesel(sql_type = BigInt)]
    pub delayed: i64,
    #[diesel(sql_type = BigInt)]
    pub running: i64,
}

/// Every lane that has live tasks. Reads all of them.
pub fn lanes(connection: &mut PgConnection, lost_after_s: f64) -> QueryResult<Vec<LaneRow>> {
    diesel::sql_query(
        "SELECT t.queue, t.lane,
            count(*) FILTER (WHERE t.status IN ('PENDING', 'RETRYING') AND t.due_at IS NULL AND o.task_id IS NULL
                AND GREATEST(t.updated_at, t.next_attempt_at, t.requeued_at) < now() - make_interval(secs => $1)) AS waiting,
            count(*) FILTER (WHERE t.status = 'RETRYING' AND t.due_at IS NULL AND o.task_id IS NULL
                AND t.next_attempt_at > now() + interval '2 seconds') AS delayed,
            count(*) FILTER (WHERE t.status = 'PROCESSING') AS running
         FROM tasks AS t LEFT JOIN (SELECT DISTINCT task_id FROM outbox) AS o ON o.task_id = t.id
         WHERE t.finished_at IS NULL GROUP BY t.queue, t.lane",
    )
    .bind::<Double, _>(lost_after_s)
    .load(connection)
}

/// Some of the tasks that wait in these lanes (`<queue>.<lane>`) as above, the oldest first.
pub fn waiting(
    connection: &mut PgConnection,
    lanes: &[String],
    lost_after_s: f64,
) -> QueryResult<Vec<String>> {
    let rows: Vec<Name> = diesel::sql_query(format!(
        "SELECT t.id::text AS name FROM tasks AS t
         WHERE t.finished_at IS NULL AND t.due_at IS NULL AND t.status IN ('PENDING', 'RETRYING')
            AND t.queue || '.' || t.lane = ANY($1)
            AND GREATEST(t.updated_at, t.next_attempt_at, t.requeued_at) < now() - make_interval(secs => $2)
            AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.task_id = t.id)
         ORDER BY t.id LIMIT {SAMPLES}"
    ))
    .bind::<Array<Text>, _>(lanes)
    .bind::<Double, _>(lost_after_s)
    .load(connection)?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

/// One batch of tasks whose messages should be in delay tiers waits in the database instead. A message that is in a tier
/// all the same claims the attempt first, or nothing.
pub fn wait_here(connection: &mut PgConnection) -> QueryResult<usize> {
    diesel::sql_query(format!(
        "UPDATE tasks SET due_at = next_attempt_at WHERE id IN (
            SELECT t.id FROM tasks AS t
            WHERE t.finished_at IS NULL AND t.status = 'RETRYING' AND t.due_at IS NULL AND t.next_attempt_at > now()
                AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.task_id = t.id)
            ORDER BY t.id LIMIT {BATCH} FOR UPDATE OF t SKIP LOCKED)"
    ))
    .execute(connection)
}

/// How many tasks of which kind wait for a worker that knows it.
pub fn parked(connection: &mut PgConnection) -> QueryResult<Vec<(String, i64)>> {
    let rows: Vec<NamedCount> = diesel::sql_query(
        "SELECT kind AS name, count(*) AS count FROM tasks
         WHERE due_at IS NOT NULL AND finished_at IS NULL AND status = 'RETRYING' AND error_code = $1 GROUP BY kind",
    )
    .bind::<Text, _>(UNKNOWN_KIND)
    .load(connection)?;
    Ok(rows.into_iter().map(|row| (row.name, row.count)).collect())
}

/// Whether this session is the one that looks; it is until its connection ends. (Advisory locks know no schema.)
pub fn is_on_duty(connection: &mut PgConnection) -> QueryResult<bool> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Bool)]
        held: bool,
    }
    let row: Row = diesel::sql_query(
        "SELECT pg_try_advisory_lock(hashtextextended('warren doctor ' || current_schema(), 0)) AS held",
    )
    .get_result(connection)?;
    Ok(row.held)
}
