//! Removing what is left of a person from tasks and what belongs to them, one batch of tasks at a time.
//!
//! Nothing in the hot path is kept for this: tasks have no index by recipient, so all of them are looked at once.

use super::operate;
use chrono::{DateTime, Utc};
use diesel::{
    Connection, ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult,
    Queryable, QueryableByName, RunQueryDsl, Selectable, SelectableHelper,
    dsl::now,
    sql_types::{Array, BigInt, Bool, Text, Uuid as SqlUuid},
};
use shared::schema::erasures;
use uuid::Uuid;

/// Stands where the address stood; nobody has it (RFC 2606).
const PLACEHOLDER: &str = "erased@erased.invalid";

#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = erasures)]
pub struct Row {
    pub id: Uuid,
    pub address: Option<String>,
    pub done: Uuid,
    pub until: Uuid,
    pub tasks: i64,
    pub created_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

pub fn find(connection: &mut PgConnection, id: Uuid) -> QueryResult<Option<Row>> {
    erasures::table
        .find(id)
        .select(Row::as_select())
        .first(connection)
        .optional()
}

/// Notes that the tasks there are by now are to be gone through.
pub fn begin(connection: &mut PgConnection, user: Uuid, canonical: &str) -> QueryResult<Row> {
    diesel::insert_into(erasures::table)
        .values((
            erasures::id.eq(user),
            erasures::address.eq(canonical),
            erasures::done.eq(Uuid::nil()),
            erasures::until.eq(Uuid::now_v7()),
        ))
        .returning(Row::as_returning())
        .get_result(connection)
}

/// Deletes a batch of those that were finished so many days ago.
pub fn forget(connection: &mut PgConnection, days: u32, limit: i64) -> QueryResult<usize> {
    diesel::sql_query(
        "DELETE FROM erasures WHERE id IN (
            SELECT id FROM erasures WHERE finished_at < now() - make_interval(days => $1) LIMIT $2)",
    )
    .bind::<diesel::sql_types::Integer, _>(i32::try_from(days).unwrap_or(i32::MAX))
    .bind::<BigInt, _>(limit)
    .execute(connection)
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    /// It names the person somewhere.
    #[diesel(sql_type = Bool)]
    has: bool,
    /// It is a mail to them.
    #[diesel(sql_type = Bool)]
    theirs: bool,
    #[diesel(sql_type = Bool)]
    running: bool,
}

/// Goes through the next `limit` tasks for the oldest erasure that is not finished. Returns `limit` where there may be
/// more to do at once, else 0: a mail to the person that is being sent has to end first.
pub fn step(connection: &mut PgConnection, limit: i64) -> QueryResult<usize> {
    connection.transaction(|connection| {
        let next: Option<Row> = erasures::table
            .filter(erasures::finished_at.is_null())
            .order(erasures::id)
            .select(Row::as_select())
            .for_update()
            .skip_locked()
            .first(connection)
            .optional()?;
        let Some((row, address)) = next.and_then(|row| {
            let address = row.address.clone()?;
            Some((row, address))
        }) else {
            return Ok(0);
        };
        let batch = look(connection, &row, &address, limit)?;
        let patterns = Patterns::of(&address);
        let of = |wanted: fn(&Found) -> bool| -> Vec<Uuid> {
            batch
                .iter()
                .filter(|one| wanted(one))
                .map(|one| one.id)
                .collect()
        };
        let (theirs, touched) = (of(|one| one.theirs), of(|one| one.has));
        operate::cancel_for_erasure(connection, theirs.clone())?;
        remove(connection, &patterns, &touched, &theirs)?;
        // One that runs may still write; it is looked at again.
        let passed = batch.iter().position(|one| one.running && one.theirs);
        let is_held = passed.is_some();
        let passed = &batch[..passed.unwrap_or(batch.len())];
        let counted = passed.iter().filter(|one| one.has).count();
        let is_full = i64::try_from(batch.len()).is_ok_and(|count| count >= limit);
        diesel::update(erasures::table.find(row.id))
            .set((
                erasures::done.eq(passed.last().map_or(row.done, |last| last.id)),
                erasures::tasks.eq(erasures::tasks + i64::try_from(counted).unwrap_or(0)),
            ))
            .execute(connection)?;
        if is_held {
            return Ok(0);
        }
        if !is_full {
            forget_answers(connection, &address, &patterns)?;
            diesel::update(erasures::table.find(row.id))
                .set((
                    erasures::finished_at.eq(now),
                    erasures::address.eq(None::<String>),
                ))
                .execute(connection)?;
        }
        Ok(usize::try_from(limit).unwrap_or(usize::MAX))
    })
}

fn look(
    connection: &mut PgConnection,
    row: &Row,
    address: &str,
    limit: i64,
) -> QueryResult<Vec<Found>> {
    diesel::sql_query(
        "SELECT id, theirs, running, theirs OR position($1 in lower(concat_ws(' ', payload, result, progress, error_message,
                array_to_string(tags, ' '), limit_key))) > 0 AS has
         FROM (SELECT *, kind IN ('email.send', 'email.code') AND COALESCE(lower(payload->>'recipient') = $1, false) AS theirs,
                status = 'PROCESSING' AS running
            FROM tasks WHERE id > $2 AND id <= $3 ORDER BY id LIMIT $4) AS batch
         ORDER BY id",
    )
    .bind::<Text, _>(address)
    .bind::<SqlUuid, _>(row.done)
    .bind::<SqlUuid, _>(row.until)
    .bind::<BigInt, _>(limit)
    .load(connection)
}

/// Regular expressions (of PostgreSQL) for the address.
struct Patterns {
    /// As a JSON text that ends with it, after a name: `"Ada <ada@example.com>"`.
    mailbox: String,
    /// Wherever it stands by itself, and is not a part of another one.
    bare: String,
}

impl Patterns {
    fn of(address: &str) -> Self {
        let escape = |c: char| {
            let slash = if c.is_ascii_punctuation() { "\\" } else { "" };
            format!("{slash}{c}")
        };
        let address: String = address.chars().map(escape).collect();
        Self {
            mailbox: format!(r#""(?:[^"\\]|\\.)*<{address}>""#),
            bare: format!(
                r"(?<![A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]){address}(?![A-Za-z0-9-])(?!\.[A-Za-z0-9])"
            ),
        }
    }
}

fn remove(
    connection: &mut PgConnection,
    patterns: &Patterns,
    touched: &[Uuid],
    theirs: &[Uuid],
) -> QueryResult<()> {
    if touched.is_empty() {
        return Ok(());
    }
    // Of mails to the person nothing is kept but that there was one; in others the address is replaced.
    diesel::sql_query(
        "UPDATE tasks SET
            payload = regexp_replace(regexp_replace(
                (CASE WHEN id = ANY($2) AND kind = 'email.send' THEN without_person(payload) ELSE payload END)::text,
                $3, '\"' || $5 || '\"', 'gi'), $4, $5, 'gi')::json,
            result = regexp_replace(result::text, $4, $5, 'gi')::json,
            progress = regexp_replace(progress::text, $4, $5, 'gi')::json,
            error_message = regexp_replace(error_message, $4, $5, 'gi'),
            tags = ARRAY(SELECT regexp_replace(tag, $4, $5, 'gi') FROM unnest(tags) AS tag),
            limit_key = regexp_replace(limit_key, $4, $5, 'gi')
         WHERE id = ANY($1)",
    )
    .bind::<Array<SqlUuid>, _>(touched)
    .bind::<Array<SqlUuid>, _>(theirs)
    .bind::<Text, _>(&patterns.mailbox)
    .bind::<Text, _>(&patterns.bare)
    .bind::<Text, _>(PLACEHOLDER)
    .execute(connection)?;
    diesel::sql_query("DELETE FROM task_files WHERE task_id = ANY($1)")
        .bind::<Array<SqlUuid>, _>(theirs)
        .execute(connection)?;
    for statement in [
        "UPDATE task_attempts SET error_message = regexp_replace(error_message, $2, $3, 'gi')
         WHERE task_id = ANY($1) AND error_message IS NOT NULL",
        "UPDATE task_output SET text = regexp_replace(text, $2, $3, 'gi') WHERE task_id = ANY($1)",
        "UPDATE email_events SET detail = regexp_replace(detail, $2, $3, 'gi')
         WHERE task_id = ANY($1) AND detail IS NOT NULL",
    ] {
        diesel::sql_query(statement)
            .bind::<Array<SqlUuid>, _>(touched)
            .bind::<Text, _>(&patterns.bare)
            .bind::<Text, _>(PLACEHOLDER)
            .execute(connection)?;
    }
    Ok(())
}

/// What was answered to requests about the person, and keys that name them.
fn forget_answers(
    connection: &mut PgConnection,
    address: &str,
    patterns: &Patterns,
) -> QueryResult<()> {
    diesel::sql_query(
        "UPDATE idempotency_keys SET answer = regexp_replace(answer, $2, $3, 'gi'),
            key = CASE WHEN position($1 in lower(key)) > 0 THEN 'erased-' || request_id ELSE key END
         WHERE position($1 in lower(answer)) > 0 OR position($1 in lower(key)) > 0",
    )
    .bind::<Text, _>(address)
    .bind::<Text, _>(&patterns.bare)
    .bind::<Text, _>(PLACEHOLDER)
    .execute(connection)
    .map(|_| ())
}
