//! What is deleted or ended by age, in small batches.

use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    sql_types::{BigInt, Double, Integer, Uuid as SqlUuid},
};
use uuid::{NoContext, Timestamp, Uuid};

/// Forgets idempotency keys older than that.
pub fn forget_keys(connection: &mut PgConnection, hours: u32, limit: i64) -> QueryResult<usize> {
    diesel::sql_query(
        "DELETE FROM idempotency_keys WHERE (api_key_id, key) IN (
            SELECT api_key_id, key FROM idempotency_keys
            WHERE created_at < now() - make_interval(hours => $1)
            ORDER BY created_at LIMIT $2)",
    )
    .bind::<Integer, _>(i32::try_from(hours).unwrap_or(i32::MAX))
    .bind::<BigInt, _>(limit)
    .execute(connection)
}

/// Deletes one batch of tasks that finished more than `days` ago, with their attempts and their output.
/// UNKNOWN ones wait for a person, however long.
///
/// Ids carry the time of acceptance, so the oldest rows are the first of the primary key.
pub fn delete_finished(connection: &mut PgConnection, days: u32, limit: u32) -> QueryResult<usize> {
    let seconds = f64::from(days) * 86_400.0;
    diesel::sql_query(
        "WITH old AS (
            SELECT id FROM tasks
            WHERE id < $1 AND finished_at < now() - make_interval(secs => $2) AND status <> 'UNKNOWN'
            ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
         ), attempts AS (
            DELETE FROM task_attempts USING old WHERE task_attempts.task_id = old.id
         ), output AS (
            DELETE FROM task_output USING old WHERE task_output.task_id = old.id
         ), events AS (
            DELETE FROM email_events USING old WHERE email_events.task_id = old.id
         ), files AS (
            DELETE FROM task_files USING old WHERE task_files.task_id = old.id
         )
         DELETE FROM tasks USING old WHERE tasks.id = old.id",
    )
    .bind::<SqlUuid, _>(id_bound(days))
    .bind::<Double, _>(seconds)
    .bind::<BigInt, _>(i64::from(limit))
    .execute(connection)
}

/// The smallest id of a task accepted `days` ago.
pub(super) fn id_bound(days: u32) -> Uuid {
    let then = chrono::Utc::now() - chrono::TimeDelta::days(days.into());
    let seconds = u64::try_from(then.timestamp()).unwrap_or_default();
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, 0))
}

/// Ends waiting tasks whose `useful_until` has passed. A claim does so too; this is for those that no
/// worker comes for.
pub fn expire(connection: &mut PgConnection, limit: i64) -> QueryResult<usize> {
    diesel::sql_query(
        "UPDATE tasks SET status = 'EXPIRED', finished_at = now(), updated_at = now(), due_at = NULL, next_attempt_at = NULL,
            payload = CASE WHEN content_ttl_s = 0 THEN without_content(payload) ELSE payload END,
            content_ttl_s = CASE WHEN content_ttl_s = 0 THEN -1 ELSE content_ttl_s END
         WHERE id IN (
            SELECT id FROM tasks
            WHERE finished_at IS NULL AND status IN ('SCHEDULED', 'PENDING', 'RETRYING') AND useful_until < now()
            ORDER BY useful_until LIMIT $1 FOR UPDATE SKIP LOCKED)",
    )
    .bind::<BigInt, _>(limit)
    .execute(connection)
}

/// Removes the content of mails whose time is over, and notes that in the sign of `content_ttl_s`. The condition is that of
/// the index `tasks_content_expiry`.
pub fn expire_content(connection: &mut PgConnection, limit: i64) -> QueryResult<usize> {
    diesel::sql_query(
        "WITH old AS (
            SELECT id FROM tasks
            WHERE content_ttl_s >= 0 AND finished_at IS NOT NULL
                AND (finished_at AT TIME ZONE 'UTC') + content_ttl_s * interval '1 second' <= now() AT TIME ZONE 'UTC'
            ORDER BY (finished_at AT TIME ZONE 'UTC') + content_ttl_s * interval '1 second'
            LIMIT $1 FOR UPDATE SKIP LOCKED
         )
         UPDATE tasks SET payload = without_content(payload), content_ttl_s = ~content_ttl_s FROM old WHERE tasks.id = old.id",
    )
    .bind::<BigInt, _>(limit)
    .execute(connection)
}

/// Removes results whose time is over, and notes that in the sign of `result_ttl_s`. The condition is that of the index
/// `tasks_result_expiry`.
pub fn expire_results(connection: &mut PgConnection, limit: i64) -> QueryResult<usize> {
    diesel::sql_query(
        "WITH old AS (
            SELECT id FROM tasks
            WHERE result_ttl_s >= 0 AND finished_at IS NOT NULL
                AND (finished_at AT TIME ZONE 'UTC') + result_ttl_s * interval '1 second' <= now() AT TIME ZONE 'UTC'
            ORDER BY (finished_at AT TIME ZONE 'UTC') + result_ttl_s * interval '1 second'
            LIMIT $1 FOR UPDATE SKIP LOCKED
         ), output AS (
            DELETE FROM task_output USING old WHERE task_output.task_id = old.id
         )
         UPDATE tasks SET result = NULL, result_ttl_s = ~result_ttl_s FROM old WHERE tasks.id = old.id",
    )
    .bind::<BigInt, _>(limit)
    .execute(connection)
}
