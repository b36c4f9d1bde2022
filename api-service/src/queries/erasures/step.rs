//! One step of an erasure: the next tasks, as far as they are old enough that none can come before them any more.

use super::{Row, hide_suppressions, scrub::Scrub};
use crate::queries::operate;
use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    Connection, ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult,
    QueryableByName, RunQueryDsl, SelectableHelper,
    dsl::now,
    sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use serde_json::Value;
use shared::schema::erasures;
use uuid::{NoContext, Timestamp, Uuid};

#[derive(QueryableByName)]
struct Task {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Bool)]
    is_mail: bool,
    #[diesel(sql_type = Bool)]
    running: bool,
    #[diesel(sql_type = Nullable<Text>)]
    payload: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    result: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    progress: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    error_message: Option<String>,
    #[diesel(sql_type = Array<Text>)]
    tags: Vec<String>,
    #[diesel(sql_type = Nullable<Text>)]
    limit_key: Option<String>,
}

#[derive(QueryableByName)]
struct Moment {
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
}

/// Goes through the next `limit` tasks for the oldest erasure that is not finished. `margin`: how long a task may take from
/// its id to its commit, clocks included. Returns `limit` where there may be more to do at once, else 0.
pub fn step(connection: &mut PgConnection, limit: i64, margin: TimeDelta) -> QueryResult<usize> {
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
        let until = first_id(row.created_at + margin);
        let scrub = Scrub::new(&address);
        let ids = ids(connection, row.done, until, limit)?;
        let mut passed = row.done;
        let mut touched = 0_i64;
        let mut is_held = false;
        if let (Some(first), Some(last)) = (ids.first(), ids.last()) {
            let tasks = look(connection, (*first, *last), scrub.domain())?;
            passed = *last;
            for task in tasks {
                let is_theirs = task.is_theirs(&scrub);
                if is_theirs && task.running {
                    // It may still write; it is waited for.
                    operate::cancel_for_erasure(connection, vec![task.id])?;
                    passed = before(task.id);
                    is_held = true;
                    break;
                }
                if is_theirs {
                    operate::cancel_for_erasure(connection, vec![task.id])?;
                }
                touched += i64::from(clean(connection, &task, &scrub, is_theirs)?);
            }
        }
        diesel::update(erasures::table.find(row.id))
            .set((
                erasures::done.eq(passed),
                erasures::tasks.eq(erasures::tasks + touched),
            ))
            .execute(connection)?;
        let is_full = i64::try_from(ids.len()).is_ok_and(|count| count >= limit);
        if is_held {
            return Ok(0);
        }
        if is_full {
            return Ok(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        end(connection, &row, &scrub, margin)
    })
}

/// All tasks there are were gone through. Those that were on their way to disk are looked for once more.
fn end(
    connection: &mut PgConnection,
    row: &Row,
    scrub: &Scrub,
    margin: TimeDelta,
) -> QueryResult<usize> {
    let clock: Moment =
        diesel::sql_query("SELECT clock_timestamp() AS at").get_result(connection)?;
    if clock.at < row.created_at + margin + margin {
        return Ok(0);
    }
    if !row.rechecked {
        diesel::update(erasures::table.find(row.id))
            .set((
                erasures::rechecked.eq(true),
                erasures::done.eq(first_id(row.created_at - margin)),
            ))
            .execute(connection)?;
        return Ok(0);
    }
    if let (Some(address), Some(keyed)) = (&row.address, &row.keyed) {
        hide_suppressions(connection, address, keyed)?;
    }
    forget_answers(connection, row.id, scrub)?;
    diesel::update(erasures::table.find(row.id))
        .set((
            erasures::finished_at.eq(now),
            erasures::address.eq(None::<String>),
        ))
        .execute(connection)?;
    Ok(0)
}

impl Task {
    fn is_theirs(&self, scrub: &Scrub) -> bool {
        let payload = self.payload.as_deref().filter(|_| self.is_mail);
        let payload = payload.and_then(|json| serde_json::from_str::<Value>(json).ok());
        payload.is_some_and(|payload| scrub.is_recipient(&payload))
    }
}

fn ids(
    connection: &mut PgConnection,
    done: Uuid,
    until: Uuid,
    limit: i64,
) -> QueryResult<Vec<Uuid>> {
    #[derive(QueryableByName)]
    struct Id {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    let ids: Vec<Id> =
        diesel::sql_query("SELECT id FROM tasks WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3")
            .bind::<SqlUuid, _>(done)
            .bind::<SqlUuid, _>(until)
            .bind::<BigInt, _>(limit)
            .load(connection)?;
    Ok(ids.into_iter().map(|row| row.id).collect())
}

/// Of those, the ones in which the domain stands anywhere, in lower case as the stored addresses have it.
fn look(
    connection: &mut PgConnection,
    (first, last): (Uuid, Uuid),
    domain: &str,
) -> QueryResult<Vec<Task>> {
    diesel::sql_query(
        "SELECT id, kind IN ('email.send', 'email.code') AS is_mail, status = 'PROCESSING' AS running,
            payload::text AS payload, result::text AS result, progress::text AS progress, error_message, tags, limit_key
         FROM tasks WHERE id BETWEEN $1 AND $2 AND (
            position($3 in lower(concat_ws(' ', payload, result, progress, error_message, array_to_string(tags, ' '), limit_key))) > 0
            OR EXISTS (SELECT 1 FROM task_attempts AS a WHERE a.task_id = tasks.id AND position($3 in lower(a.error_message)) > 0)
            OR EXISTS (SELECT 1 FROM task_output AS o WHERE o.task_id = tasks.id AND position($3 in lower(o.text)) > 0)
            OR EXISTS (SELECT 1 FROM email_events AS e WHERE e.task_id = tasks.id AND position($3 in lower(e.detail)) > 0))
         ORDER BY id",
    )
    .bind::<SqlUuid, _>(first)
    .bind::<SqlUuid, _>(last)
    .bind::<Text, _>(domain)
    .load(connection)
}

/// True: there was something to be removed.
fn clean(
    connection: &mut PgConnection,
    task: &Task,
    scrub: &Scrub,
    is_theirs: bool,
) -> QueryResult<bool> {
    let mut found = false;
    let mut json = |text: &Option<String>, is_payload: bool| {
        let text = text.as_ref()?;
        let mut value: Value = serde_json::from_str(text).ok()?;
        let was_in = if is_payload && task.is_mail {
            scrub.mail(&mut value)
        } else {
            scrub.json(&mut value)
        };
        found |= was_in;
        was_in.then(|| value.to_string())
    };
    let payload = json(&task.payload, true);
    let (result, progress) = (json(&task.result, false), json(&task.progress, false));
    let mut text = |text: Option<&String>| {
        let clean = scrub.text(text?)?;
        found = true;
        Some(clean)
    };
    let error = text(task.error_message.as_ref());
    let limit_key = text(task.limit_key.as_ref());
    let tags: Vec<String> = task
        .tags
        .iter()
        .map(|tag| text(Some(tag)).unwrap_or_else(|| tag.clone()))
        .collect();
    if found {
        diesel::sql_query(
            "UPDATE tasks SET payload = COALESCE($2::json, payload), result = COALESCE($3::json, result),
                progress = COALESCE($4::json, progress), error_message = COALESCE($5, error_message),
                limit_key = COALESCE($6, limit_key), tags = $7 WHERE id = $1",
        )
        .bind::<SqlUuid, _>(task.id)
        .bind::<Nullable<Text>, _>(payload)
        .bind::<Nullable<Text>, _>(result)
        .bind::<Nullable<Text>, _>(progress)
        .bind::<Nullable<Text>, _>(error)
        .bind::<Nullable<Text>, _>(limit_key)
        .bind::<Array<Text>, _>(tags)
        .execute(connection)?;
    }
    if is_theirs {
        diesel::sql_query("DELETE FROM task_files WHERE task_id = $1")
            .bind::<SqlUuid, _>(task.id)
            .execute(connection)?;
    }
    let beside = clean_beside(connection, task.id, scrub)?;
    Ok(found || beside)
}

/// What other tables have of a task.
fn clean_beside(connection: &mut PgConnection, task: Uuid, scrub: &Scrub) -> QueryResult<bool> {
    #[derive(QueryableByName)]
    struct Line {
        #[diesel(sql_type = Integer)]
        attempt: i32,
        #[diesel(sql_type = Integer)]
        seq: i32,
        #[diesel(sql_type = Text)]
        key: String,
        #[diesel(sql_type = Text)]
        text: String,
    }
    let mut found = false;
    for (read, write) in [
        (
            "SELECT attempt, 0 AS seq, '' AS key, error_message AS text FROM task_attempts
             WHERE task_id = $1 AND error_message IS NOT NULL",
            "UPDATE task_attempts SET error_message = $5 WHERE task_id = $1 AND attempt = $2 AND $3 = 0 AND $4 = ''",
        ),
        (
            "SELECT attempt, seq, '' AS key, text FROM task_output WHERE task_id = $1",
            "UPDATE task_output SET text = $5 WHERE task_id = $1 AND attempt = $2 AND seq = $3 AND $4 = ''",
        ),
        (
            "SELECT 0 AS attempt, 0 AS seq, event || ' ' || code AS key, detail AS text FROM email_events
             WHERE task_id = $1 AND detail IS NOT NULL",
            "UPDATE email_events SET detail = $5 WHERE task_id = $1 AND $2 = 0 AND $3 = 0 AND event || ' ' || code = $4",
        ),
    ] {
        let lines: Vec<Line> = diesel::sql_query(read)
            .bind::<SqlUuid, _>(task)
            .load(connection)?;
        for line in lines {
            let Some(clean) = scrub.text(&line.text) else {
                continue;
            };
            found = true;
            diesel::sql_query(write)
                .bind::<SqlUuid, _>(task)
                .bind::<Integer, _>(line.attempt)
                .bind::<Integer, _>(line.seq)
                .bind::<Text, _>(&line.key)
                .bind::<Text, _>(clean)
                .execute(connection)?;
        }
    }
    Ok(found)
}

/// What was answered to requests about the person, and keys that name them.
fn forget_answers(connection: &mut PgConnection, user: Uuid, scrub: &Scrub) -> QueryResult<()> {
    #[derive(QueryableByName)]
    struct Remembered {
        #[diesel(sql_type = SqlUuid)]
        request_id: Uuid,
        #[diesel(sql_type = Text)]
        key: String,
        #[diesel(sql_type = Text)]
        answer: String,
    }
    let answers: Vec<Remembered> = diesel::sql_query(
        "SELECT request_id, key, answer FROM idempotency_keys
         WHERE position($1 in lower(answer)) > 0 OR position($1 in lower(key)) > 0 OR position($2 in answer) > 0",
    )
    .bind::<Text, _>(scrub.domain())
    .bind::<Text, _>(user.to_string())
    .load(connection)?;
    for Remembered {
        request_id,
        key,
        answer,
    } in answers
    {
        let is_user = answer.contains(&user.to_string());
        let clean_key = scrub.text(&key).map(|_| format!("erased-{request_id}"));
        let clean = if is_user {
            Some(r#"{"erased":true}"#.to_owned())
        } else {
            scrub.text(&answer)
        };
        if clean.is_some() || clean_key.is_some() {
            diesel::sql_query(
                "UPDATE idempotency_keys SET answer = $2, key = $3 WHERE request_id = $1",
            )
            .bind::<SqlUuid, _>(request_id)
            .bind::<Text, _>(clean.unwrap_or(answer))
            .bind::<Text, _>(clean_key.unwrap_or(key))
            .execute(connection)?;
        }
    }
    Ok(())
}

/// The smallest id of a task that was made then.
fn first_id(at: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(at.timestamp()).unwrap_or_default();
    let made = Uuid::new_v7(Timestamp::from_unix(
        NoContext,
        seconds,
        at.timestamp_subsec_nanos(),
    ));
    // Its time alone.
    Uuid::from_u128(made.as_u128() & (u128::MAX << 80))
}

fn before(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_sub(1))
}
