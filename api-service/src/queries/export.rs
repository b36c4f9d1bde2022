//! Finished tasks on their way from the database to the archive.

use super::retention::id_bound;
use crate::archive::{Archive, ArchiveError};
use diesel::{
    Connection, PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    pg::PgRowByRowLoadingMode,
    result::Error as DieselError,
    sql_types::{BigInt, Double, Text, Uuid as SqlUuid},
};

/// Rows whose payloads and results have more bytes wait for the next batch, though at least one is taken.
const BATCH_BYTES: i64 = 32 * 1024 * 1024;

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// Ends the transaction, which deletes nothing then.
#[derive(Debug)]
enum Stopped {
    Database(DieselError),
    Archive(ArchiveError),
}

impl From<DieselError> for Stopped {
    fn from(error: DieselError) -> Self {
        Self::Database(error)
    }
}

impl From<ArchiveError> for Stopped {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

/// What a batch moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    pub count: usize,
    /// There may be more.
    pub is_cut: bool,
}

/// Moves one batch of tasks that finished more than `days` ago into the archive, with their attempts, as
/// [`delete_finished`](super::retention::delete_finished) deletes them.
pub fn export_finished(
    connection: &mut PgConnection,
    archive: &mut dyn Archive,
    days: u32,
    limit: u32,
) -> QueryResult<Result<Moved, ArchiveError>> {
    let moved = connection.transaction(|connection| {
        archive.begin(chrono::Utc::now().date_naive())?;
        let moved = write(connection, archive, days, limit)?;
        archive.commit()?;
        Ok(moved)
    });
    match moved {
        Ok(moved) => Ok(Ok(moved)),
        Err(stopped) => {
            archive.abandon();
            match stopped {
                Stopped::Archive(error) => Ok(Err(error)),
                Stopped::Database(error) => Err(error),
            }
        }
    }
}

fn write(
    connection: &mut PgConnection,
    archive: &mut dyn Archive,
    days: u32,
    limit: u32,
) -> Result<Moved, Stopped> {
    let rows = diesel::sql_query(
        "WITH old AS (
            SELECT id, octet_length(payload::text) + COALESCE(octet_length(result::text), 0) AS bytes FROM tasks
            WHERE id < $1 AND finished_at < now() - make_interval(secs => $2) AND status <> 'UNKNOWN'
            ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
         ), batch AS (
            SELECT id FROM (SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS before FROM old) AS sums
            WHERE before < $4
         ), tried AS (
            DELETE FROM task_attempts USING batch WHERE task_attempts.task_id = batch.id RETURNING task_attempts.*
         ), output AS (
            DELETE FROM task_output USING batch WHERE task_output.task_id = batch.id
         ), events AS (
            DELETE FROM email_events USING batch WHERE email_events.task_id = batch.id
         ), files AS (
            DELETE FROM task_files USING batch WHERE task_files.task_id = batch.id
         ), gone AS (
            DELETE FROM tasks USING batch WHERE tasks.id = batch.id RETURNING tasks.*
         )
         SELECT row_to_json(line)::text AS line FROM (
            SELECT gone.*, COALESCE(lists.attempts, '[]') AS attempts
            FROM gone LEFT JOIN (
                SELECT task_id, json_agg(row_to_json(tried) ORDER BY attempt) AS attempts FROM tried GROUP BY task_id
            ) AS lists ON lists.task_id = gone.id
         ) AS line",
    )
    .bind::<SqlUuid, _>(id_bound(days))
    .bind::<Double, _>(f64::from(days) * 86_400.0)
    .bind::<BigInt, _>(i64::from(limit))
    .bind::<BigInt, _>(BATCH_BYTES)
    // One row at a time: a batch need not fit into memory.
    .load_iter::<Line, PgRowByRowLoadingMode>(connection)?;
    let (mut count, mut bytes) = (0, 0);
    for row in rows {
        let line = one_line(row?.line);
        archive.write(&line)?;
        count += 1;
        bytes += line.len();
    }
    let is_heavy = i64::try_from(bytes).is_ok_and(|bytes| bytes >= BATCH_BYTES);
    Ok(Moved {
        count,
        is_cut: count >= limit as usize || is_heavy,
    })
}

/// Payloads are stored as they were written; an end of line in JSON can only be white space.
fn one_line(json: String) -> Vec<u8> {
    let mut bytes = json.into_bytes();
    for byte in &mut bytes {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    bytes
}
