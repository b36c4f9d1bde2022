//! What is in the file store, and which tasks need it.

use diesel::{
    Connection, PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    sql_types::{Array, BigInt, Integer, Text},
};
use shared::files::FileId;
use std::collections::{BTreeMap, HashMap};

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    sha256: String,
    #[diesel(sql_type = BigInt)]
    size: i64,
}

/// Notes contents, with their bytes, as used now.
pub fn note(connection: &mut PgConnection, sizes: &BTreeMap<FileId, u64>) -> QueryResult<()> {
    // In one order, so that two requests don't wait for each other.
    let rows: Vec<_> = sizes.iter().collect();
    let bytes = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
    diesel::sql_query(
        "INSERT INTO files (sha256, size) SELECT * FROM unnest($1, $2)
         ON CONFLICT (sha256) DO UPDATE SET used_at = now()
            WHERE files.used_at < now() - interval '10 minutes'",
    )
    .bind::<Array<Text>, _>(rows.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(
        rows.iter()
            .map(|(_, size)| bytes(**size))
            .collect::<Vec<_>>(),
    )
    .execute(connection)
    .map(|_| ())
}

/// Those of the contents that are there for certain; they are noted as used now. Returns their sizes.
pub fn touch(connection: &mut PgConnection, ids: &[FileId]) -> QueryResult<HashMap<FileId, u64>> {
    // Rarely: a popular file's row would be where all wait for each other.
    diesel::sql_query(
        "WITH chosen AS (SELECT sha256 FROM files WHERE sha256 = ANY($1) AND used_at < now() - interval '10 minutes'
            ORDER BY sha256 FOR UPDATE)
         UPDATE files SET used_at = now() FROM chosen WHERE files.sha256 = chosen.sha256",
    )
    .bind::<Array<Text>, _>(ids.iter().map(FileId::as_str).collect::<Vec<_>>())
    .execute(connection)?;
    let rows: Vec<Row> =
        diesel::sql_query("SELECT sha256, size FROM files WHERE sha256 = ANY($1) AND stored")
            .bind::<Array<Text>, _>(ids.iter().map(FileId::as_str).collect::<Vec<_>>())
            .load(connection)?;
    let sized = |row: Row| Some((FileId::parse(&row.sha256)?, u64::try_from(row.size).ok()?));
    Ok(rows.into_iter().filter_map(sized).collect())
}

/// Notes that the contents are there.
pub fn stored(connection: &mut PgConnection, ids: &[FileId]) -> QueryResult<()> {
    diesel::sql_query(
        "WITH chosen AS (SELECT sha256 FROM files WHERE sha256 = ANY($1) AND NOT stored ORDER BY sha256 FOR UPDATE)
         UPDATE files SET stored = true FROM chosen WHERE files.sha256 = chosen.sha256",
    )
    .bind::<Array<Text>, _>(ids.iter().map(FileId::as_str).collect::<Vec<_>>())
    .execute(connection)
    .map(|_| ())
}

/// Lets go of what tasks needed whose content is gone already, and takes up to so many files that nobody needs and
/// nobody has used for so many hours: they count as gone from now on, and their contents can be deleted.
pub fn take_unused(
    connection: &mut PgConnection,
    hours: u32,
    limit: i64,
) -> QueryResult<Vec<FileId>> {
    diesel::sql_query(
        "DELETE FROM task_files WHERE (task_id, sha256) IN (
            SELECT task_id, task_files.sha256 FROM task_files JOIN tasks ON tasks.id = task_id
            WHERE brief AND tasks.content_ttl_s < 0 LIMIT $1)",
    )
    .bind::<BigInt, _>(limit * 10)
    .execute(connection)?;
    let rows: Vec<Row> = diesel::sql_query(
        "WITH chosen AS (
            SELECT sha256 FROM files
            WHERE used_at < now() - make_interval(hours => $1)
                AND NOT EXISTS (SELECT 1 FROM task_files WHERE task_files.sha256 = files.sha256)
            ORDER BY used_at LIMIT $2 FOR UPDATE SKIP LOCKED
         )
         UPDATE files SET stored = false FROM chosen WHERE files.sha256 = chosen.sha256
         RETURNING files.sha256, size",
    )
    .bind::<Integer, _>(i32::try_from(hours).unwrap_or(i32::MAX))
    .bind::<BigInt, _>(limit)
    .load(connection)?;
    Ok(rows
        .into_iter()
        .filter_map(|row| FileId::parse(&row.sha256))
        .collect())
}

/// Deletes one of those by `delete`, and forgets it; false: it could not be deleted. Whoever wants to use it meanwhile
/// waits, and then finds that it is gone; whoever was quicker keeps it.
pub fn remove(
    connection: &mut PgConnection,
    id: &FileId,
    hours: u32,
    delete: &dyn Fn(&FileId) -> bool,
) -> QueryResult<bool> {
    connection.transaction(|connection| {
        let unused: Vec<Row> = diesel::sql_query(
            "SELECT sha256, size FROM files WHERE sha256 = $1 AND NOT stored
                AND used_at < now() - make_interval(hours => $2)
                AND NOT EXISTS (SELECT 1 FROM task_files WHERE task_files.sha256 = files.sha256)
             FOR UPDATE SKIP LOCKED",
        )
        .bind::<Text, _>(id.as_str())
        .bind::<Integer, _>(i32::try_from(hours).unwrap_or(i32::MAX))
        .load(connection)?;
        if unused.is_empty() {
            return Ok(true);
        }
        if !delete(id) {
            return Ok(false);
        }
        diesel::sql_query("DELETE FROM files WHERE sha256 = $1")
            .bind::<Text, _>(id.as_str())
            .execute(connection)?;
        Ok(true)
    })
}
