//! The accepting statement: tasks, their idempotency keys and their outbox rows, in one autocommit round
//! trip. A single statement is atomic by itself; BEGIN and COMMIT around several would halve the rate.
//! After a lost connection [`committed`] tells whether it took effect: all of it did, or nothing.

use crate::intake::{Answer, Outcome, Submission};
use chrono::{DateTime, Utc};
use diesel::{
    ExpressionMethods, PgConnection, QueryDsl, QueryResult, RunQueryDsl,
    sql_types::{
        Array, Binary, Bool, Double, Integer, Nullable, SmallInt, Text, Timestamptz,
        Uuid as SqlUuid,
    },
};
use shared::{
    schema::{idempotency_keys, tasks},
    statement, topology,
};
use std::{collections::HashSet, time::Duration};
use uuid::Uuid;

statement! {
    /// Arrays with one entry per idempotency key (`key_*`) and per task (the rest).
    pub struct Accept -> (SqlUuid,) {
        key_owner: Array<SqlUuid> = Vec<Uuid>,
        key_text: Array<Text> = Vec<String>,
        key_request: Array<SqlUuid> = Vec<Uuid>,
        key_hash: Array<Binary> = Vec<Vec<u8>>,
        key_status: Array<SmallInt> = Vec<i16>,
        key_location: Array<Nullable<Text>> = Vec<Option<String>>,
        key_answer: Array<Text> = Vec<String>,
        id: Array<SqlUuid> = Vec<Uuid>,
        request: Array<Nullable<SqlUuid>> = Vec<Option<Uuid>>,
        kind: Array<Text> = Vec<&'static str>,
        queue: Array<Text> = Vec<&'static str>,
        priority: Array<SmallInt> = Vec<i16>,
        status: Array<Text> = Vec<&'static str>,
        payload: Array<Text> = Vec<String>,
        max_attempts: Array<Integer> = Vec<i32>,
        soft_limit_s: Array<Nullable<Integer>> = Vec<Option<i32>>,
        hard_limit_s: Array<Nullable<Integer>> = Vec<Option<i32>>,
        on_worker_lost: Array<Text> = Vec<&'static str>,
        tags: Array<Text> = Vec<String>,
        run_at: Array<Nullable<Timestamptz>> = Vec<Option<DateTime<Utc>>>,
        due_at: Array<Nullable<Timestamptz>> = Vec<Option<DateTime<Utc>>>,
        useful_until: Array<Nullable<Timestamptz>> = Vec<Option<DateTime<Utc>>>,
        created_at: Array<Timestamptz> = Vec<DateTime<Utc>>,
        created_by: Array<SqlUuid> = Vec<Uuid>,
        traceparent: Array<Nullable<Text>> = Vec<Option<String>>,
        limit_key: Array<Nullable<Text>> = Vec<Option<String>>,
        result_ttl_s: Array<Nullable<Integer>> = Vec<Option<i32>>,
        content_ttl_s: Array<Nullable<Integer>> = Vec<Option<i32>>,
        // Of a task that ends at once.
        error_code: Array<Nullable<Text>> = Vec<Option<&'static str>>,
        error_message: Array<Nullable<Text>> = Vec<Option<&'static str>>,
        lane: Array<Text> = Vec<&'static str>,
        routing_key: Array<Text> = Vec<String>,
        // What they need of the file store.
        file_task: Array<SqlUuid> = Vec<Uuid>,
        file: Array<Text> = Vec<String>,
        file_brief: Array<Bool> = Vec<bool>,
        exchange: Text = String,
        relay_after: Double = f64,
    }
    "WITH keys AS (
        INSERT INTO idempotency_keys (api_key_id, key, request_id, request_hash, status, location, answer, created_at)
        SELECT *, now() FROM unnest(?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT DO NOTHING
        RETURNING request_id
    ), input AS (
        SELECT * FROM unnest(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) AS input (
            id, request_id, kind, queue, priority, status, payload, max_attempts, soft_limit_s, hard_limit_s, on_worker_lost, tags,
            run_at, due_at, useful_until, created_at, created_by, traceparent, limit_key, result_ttl_s,
            content_ttl_s, error_code, error_message, lane, routing_key)
        WHERE request_id IS NULL OR request_id IN (SELECT request_id FROM keys)
    ), stored AS (
        INSERT INTO tasks (id, kind, queue, priority, status, payload, max_attempts, soft_limit_s, hard_limit_s, on_worker_lost, tags,
            run_at, due_at, useful_until, created_at, updated_at, created_by, traceparent, limit_key, result_ttl_s,
            content_ttl_s, error_code, error_message, finished_at)
        SELECT id, kind, queue, priority, status, payload::json, max_attempts, soft_limit_s, hard_limit_s, on_worker_lost, tags::text[],
            run_at, due_at, useful_until, created_at, created_at, created_by, traceparent, limit_key, result_ttl_s,
            content_ttl_s, error_code, error_message, CASE WHEN error_code IS NOT NULL THEN now() END
        FROM input
    ), attached AS (
        INSERT INTO task_files (task_id, sha256, brief)
        SELECT * FROM unnest(?, ?, ?) AS file (task_id, sha256, brief) WHERE task_id IN (SELECT id FROM input)
        ON CONFLICT DO NOTHING
    ), published AS (
        INSERT INTO outbox (id, task_id, attempt, kind, lane, exchange, routing_key, traceparent, publish_after)
        SELECT id, id, 1, kind, lane, ?, routing_key, traceparent,
            now() + make_interval(secs => ?)
        FROM input WHERE due_at IS NULL AND error_code IS NULL
    )
    SELECT request_id FROM keys"
}

impl Accept {
    /// `result_ttl_s` is for tasks that name none.
    pub fn new(
        submissions: &[Submission],
        relay_after: Duration,
        result_ttl_s: Option<i32>,
    ) -> Self {
        let mut all = Self {
            exchange: topology::TASKS.to_owned(),
            relay_after: relay_after.as_secs_f64(),
            ..Self::default()
        };
        for submission in submissions {
            let request = submission.idempotency.as_ref().map(|idempotency| {
                let request = Uuid::now_v7();
                all.key_owner.push(idempotency.api_key_id);
                all.key_text.push(idempotency.key.clone());
                all.key_request.push(request);
                all.key_hash.push(idempotency.request_hash.clone());
                all.key_status
                    .push(i16::try_from(idempotency.answer.status).unwrap_or(202));
                all.key_location.push(idempotency.answer.location.clone());
                all.key_answer.push(idempotency.answer.body.clone());
                request
            });
            for task in &submission.tasks {
                all.id.push(task.id.0);
                all.request.push(request);
                all.kind.push(task.kind.name);
                all.queue.push(task.queue.as_str());
                all.priority.push(task.priority.get().into());
                all.status.push(task.status().as_str());
                all.payload.push(task.payload.clone());
                all.max_attempts.push(task.max_attempts.into());
                all.soft_limit_s.push(task.time_limits.soft_s);
                all.hard_limit_s.push(task.time_limits.hard_s);
                all.on_worker_lost.push(task.on_worker_lost.as_str());
                all.tags.push(array_literal(&task.tags));
                all.run_at.push(task.run_at);
                all.due_at.push(task.due_at());
                all.useful_until.push(task.useful_until);
                all.created_at.push(task.created_at);
                all.created_by.push(task.created_by);
                all.traceparent.push(task.traceparent.clone());
                all.limit_key.push(task.limit_key.clone());
                all.result_ttl_s.push(task.result_ttl_s.or(result_ttl_s));
                all.content_ttl_s.push(task.content_ttl_s);
                all.error_code
                    .push(task.refusal.map(|refusal| refusal.code));
                all.error_message
                    .push(task.refusal.map(|refusal| refusal.message));
                for file in &task.files {
                    all.file_task.push(task.id.0);
                    all.file.push(file.as_str().to_owned());
                    all.file_brief.push(task.content_ttl_s.is_some());
                }
                all.lane.push(task.priority.lane().as_str());
                all.routing_key
                    .push(topology::routing_key(task.queue, task.priority.lane()));
            }
        }
        all
    }
}

/// Stores a batch; one outcome for each submission, in their order.
pub fn run(
    connection: &mut PgConnection,
    statement: &Accept,
    submissions: &[Submission],
) -> QueryResult<Vec<Outcome>> {
    let stored: Vec<(Uuid,)> = statement.load(connection)?;
    let stored = stored.into_iter().map(|(id,)| id).collect();
    outcomes(connection, statement, submissions, &stored)
}

/// The outcomes of a run whose answer was lost with the connection; `None` when it did not take effect.
pub fn committed(
    connection: &mut PgConnection,
    statement: &Accept,
    submissions: &[Submission],
) -> QueryResult<Option<Vec<Outcome>>> {
    let keys: Vec<Uuid> = idempotency_keys::table
        .filter(idempotency_keys::request_id.eq_any(&statement.key_request))
        .filter(idempotency_keys::key.eq_any(&statement.key_text))
        .select(idempotency_keys::request_id)
        .load(connection)?;
    let tasks: i64 = tasks::table
        .filter(tasks::id.eq_any(&statement.id))
        .count()
        .get_result(connection)?;
    if keys.is_empty() && tasks == 0 {
        return Ok(None);
    }
    let stored = keys.into_iter().collect();
    outcomes(connection, statement, submissions, &stored).map(Some)
}

fn outcomes(
    connection: &mut PgConnection,
    statement: &Accept,
    submissions: &[Submission],
    stored: &HashSet<Uuid>,
) -> QueryResult<Vec<Outcome>> {
    let mut requests = statement.key_request.iter();
    submissions
        .iter()
        .map(|submission| match &submission.idempotency {
            None => Ok(Outcome::Stored),
            Some(_)
                if requests
                    .next()
                    .is_some_and(|request| stored.contains(request)) =>
            {
                Ok(Outcome::Stored)
            }
            Some(idempotency) => earlier(
                connection,
                idempotency.api_key_id,
                &idempotency.key,
                &idempotency.request_hash,
            ),
        })
        .collect()
}

/// What was answered under that key before.
fn earlier(
    connection: &mut PgConnection,
    owner: Uuid,
    key: &str,
    hash: &[u8],
) -> QueryResult<Outcome> {
    use idempotency_keys::dsl;
    let (stored_hash, status, location, body): (Vec<u8>, i16, Option<String>, String) =
        dsl::idempotency_keys
            .filter(dsl::api_key_id.eq(owner))
            .filter(dsl::key.eq(key))
            .select((dsl::request_hash, dsl::status, dsl::location, dsl::answer))
            .first(connection)?;
    if stored_hash != hash {
        return Ok(Outcome::KeyReused);
    }
    Ok(Outcome::Replayed(Answer {
        status: u16::try_from(status).unwrap_or(202),
        location,
        body,
    }))
}

/// `unnest` flattens arrays of arrays, so each row's tags travel as an array literal.
fn array_literal(items: &[String]) -> String {
    let mut literal = String::from("{");
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            literal.push(',');
        }
        literal.push('"');
        for c in item.chars() {
            if matches!(c, '"' | '\\') {
                literal.push('\\');
            }
            literal.push(c);
        }
        literal.push('"');
    }
    literal.push('}');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn array_literals_are_escaped() {
        assert_eq!(array_literal(&[]), "{}");
        assert_eq!(
            array_literal(&["a".into(), "b\"\\,}".into()]),
            r#"{"a","b\"\\,}"}"#
        );
    }
}
