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
         ON CONFLICT (sha256) DO UPDATE SET used_at = now()",
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

/// Notes that those of the files that there are are used now; returns their sizes.
pub fn touch(connection: &mut PgConnection, ids: &[FileId]) -> QueryResult<HashMap<FileId, u64>> {
    let rows: Vec<Row> = diesel::sql_query(
        "WITH chosen AS (SELECT sha256 FROM files WHERE sha256 = ANY($1) ORDER BY sha256 FOR UPDATE)
         UPDATE files SET used_at = now() FROM chosen WHERE files.sha256 = chosen.sha256
         RETURNING files.sha256, size",
    )
    .bind::<Array<Text>, _>(ids.iter().map(FileId::as_str).collect::<Vec<_>>())
    .load(connection)?;
    let sized = |row: Row| Some((FileId::parse(&row.sha256)?, u64::try_from(row.size).ok()?));
    Ok(rows.into_iter().filter_map(sized).collect())
}

/// Lets go of what tasks needed whose content is gone already, and deletes one batch of files that nobody needs and
/// nobody has used for so many hours. `delete` removes a content; where it can't, its row stays.
pub fn collect(
    connection: &mut PgConnection,
    hours: u32,
    limit: i64,
    delete: &dyn Fn(&FileId) -> bool,
) -> QueryResult<usize> {
    diesel::sql_query(
        "DELETE FROM task_files USING tasks
         WHERE brief AND tasks.id = task_files.task_id AND tasks.content_ttl_s < 0",
    )
    .execute(connection)?;
    connection.transaction(|connection| {
        // Whoever wants to use one of them meanwhile waits, and then finds that it is gone.
        let rows: Vec<Row> = diesel::sql_query(
            "SELECT sha256, size FROM files
             WHERE used_at < now() - make_interval(hours => $1)
                AND NOT EXISTS (SELECT 1 FROM task_files WHERE task_files.sha256 = files.sha256)
             ORDER BY used_at LIMIT $2 FOR UPDATE SKIP LOCKED",
        )
        .bind::<Integer, _>(i32::try_from(hours).unwrap_or(i32::MAX))
        .bind::<BigInt, _>(limit)
        .load(connection)?;
        let gone: Vec<String> = rows
            .into_iter()
            .filter(|row| FileId::parse(&row.sha256).is_none_or(|id| delete(&id)))
            .map(|row| row.sha256)
            .collect();
        diesel::sql_query("DELETE FROM files WHERE sha256 = ANY($1)")
            .bind::<Array<Text>, _>(gone)
            .execute(connection)
    })
}
