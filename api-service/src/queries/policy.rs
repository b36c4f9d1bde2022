//! Pauses and limits, as operators set them; the workers read them twice a second.

use super::audit::{self, Actor};
use crate::auth::Caller;
use chrono::{DateTime, Utc};
use diesel::{
    AsChangeset, Connection, ExpressionMethods, Insertable, OptionalExtension, PgConnection,
    QueryDsl, QueryResult, Queryable, RunQueryDsl, Selectable, SelectableHelper,
    dsl::count_star,
    sql_types::{BigInt, Nullable, Text},
};
use serde_json::json;
use shared::{
    limits::{Allowance, BucketName, Policy, Rule, Scope},
    schema::{limit_waits, limits, pauses},
};
use std::collections::HashMap;

/// A queue or a kind of which nothing is begun.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = pauses)]
pub struct Pause {
    pub scope: String,
    pub name: String,
    pub paused_at: DateTime<Utc>,
    pub paused_by: String,
    pub reason: Option<String>,
}

pub fn pauses(connection: &mut PgConnection) -> QueryResult<Vec<Pause>> {
    pauses::table
        .order((pauses::scope, pauses::name))
        .select(Pause::as_select())
        .load(connection)
}

/// Pauses; the first word counts when it is paused already. False: it is.
pub fn pause(
    connection: &mut PgConnection,
    scope: Scope,
    name: &str,
    reason: Option<&str>,
    by: &Caller,
) -> QueryResult<bool> {
    connection.transaction(|connection| {
        let paused = diesel::insert_into(pauses::table)
            .values((
                pauses::scope.eq(scope.as_str()),
                pauses::name.eq(name),
                pauses::paused_by.eq(&*by.name),
                pauses::reason.eq(reason),
            ))
            .on_conflict_do_nothing()
            .execute(connection)?;
        if paused > 0 {
            let details = json!({"scope": scope, "name": name, "reason": reason});
            let action = match scope {
                Scope::Queue => "queue.pause",
                Scope::Kind => "kind.pause",
                Scope::Key => "key.pause",
            };
            audit::note_other(connection, Actor::key(by), action, details)?;
        }
        Ok(paused > 0)
    })
}

/// False: it was not paused.
pub fn resume(
    connection: &mut PgConnection,
    scope: Scope,
    name: &str,
    by: &Caller,
) -> QueryResult<bool> {
    connection.transaction(|connection| {
        let resumed =
            diesel::delete(pauses::table.find((scope.as_str(), name))).execute(connection)?;
        if resumed > 0 {
            let action = match scope {
                Scope::Queue => "queue.resume",
                Scope::Kind => "kind.resume",
                Scope::Key => "key.resume",
            };
            let details = json!({"scope": scope, "name": name});
            audit::note_other(connection, Actor::key(by), action, details)?;
        }
        Ok(resumed > 0)
    })
}

/// What all workers together may do of something.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = limits, treat_none_as_null = true)]
pub struct Limit {
    pub scope: String,
    pub name: String,
    pub rate: Option<f64>,
    pub burst: Option<i32>,
    pub concurrency: Option<i32>,
    pub updated_at: DateTime<Utc>,
}

impl Limit {
    pub fn is_about(&self, other: &Self) -> bool {
        self.scope == other.scope && self.name == other.name
    }
}

/// Every limit, with the tasks that wait for it now.
pub fn limits(connection: &mut PgConnection) -> QueryResult<Vec<(Limit, i64)>> {
    let all = all(connection)?;
    let waiting: Vec<(String, String, i64)> = limit_waits::table
        .filter(limit_waits::woken_at.is_null())
        .group_by((limit_waits::scope, limit_waits::name))
        .select((limit_waits::scope, limit_waits::name, count_star()))
        .load(connection)?;
    let policy = policy(&all);
    let mut counts: HashMap<(Scope, String), i64> = HashMap::new();
    for (scope, name, count) in waiting {
        let bucket = Scope::parse(&scope).map(|scope| BucketName { scope, name });
        if let Some(bucket) = bucket
            && let Some((rule, _)) = policy.rule(&bucket)
        {
            *counts.entry((bucket.scope, rule)).or_default() += count;
        }
    }
    let counted = |limit: Limit| {
        let key = Scope::parse(&limit.scope).map(|scope| (scope, limit.name.clone()));
        let count = key.and_then(|key| counts.get(&key).copied());
        (limit, count.unwrap_or_default())
    };
    Ok(all.into_iter().map(counted).collect())
}

/// What the limit permits that a bucket falls under.
pub fn allowance(
    connection: &mut PgConnection,
    bucket: &BucketName,
) -> QueryResult<Option<Allowance>> {
    Ok(policy(&all(connection)?).allowance(bucket))
}

fn all(connection: &mut PgConnection) -> QueryResult<Vec<Limit>> {
    limits::table
        .order((limits::scope, limits::name))
        .select(Limit::as_select())
        .load(connection)
}

/// The limits as the workers understand them, without pauses.
fn policy(limits: &[Limit]) -> Policy {
    let rules = limits.iter().filter_map(|limit| {
        let allowance = Allowance {
            rate: limit.rate,
            burst: limit.burst,
            concurrency: limit.concurrency,
            paused: false,
        };
        Some(Rule {
            scope: Scope::parse(&limit.scope)?,
            name: limit.name.clone(),
            allowance,
        })
    });
    Policy::new(rules, [], [])
}

/// Sets a limit; it is in force within two seconds. What runs under it now counts from the beginning. Returns whether it
/// is new.
pub fn set_limit(connection: &mut PgConnection, limit: &Limit, by: &Caller) -> QueryResult<bool> {
    connection.transaction(|connection| {
        let before: Option<Limit> = limits::table
            .find((&limit.scope, &limit.name))
            .for_update()
            .select(Limit::as_select())
            .first(connection)
            .optional()?;
        diesel::insert_into(limits::table)
            .values(limit)
            .on_conflict((limits::scope, limits::name))
            .do_update()
            .set(limit)
            .execute(connection)?;
        let details = json!({
            "scope": limit.scope, "name": limit.name,
            "rate": limit.rate, "burst": limit.burst, "concurrency": limit.concurrency,
        });
        audit::note_other(connection, Actor::key(by), "limit.set", details)?;
        if limit.concurrency.is_some() {
            count_running(connection, limit)?;
        }
        Ok(before.is_none())
    })
}

/// Notes the attempts that run as running under the limit, which those that it let through are by themselves.
fn count_running(connection: &mut PgConnection, limit: &Limit) -> QueryResult<usize> {
    let beginning = limit.name.strip_suffix('*');
    diesel::sql_query(
        "INSERT INTO limit_holds (scope, name, task_id, attempt)
         SELECT $1, under, id, attempt FROM (
            SELECT id, attempt, CASE $1 WHEN 'queue' THEN queue WHEN 'kind' THEN kind ELSE limit_key END AS under
            FROM tasks WHERE finished_at IS NULL AND status = 'PROCESSING'
         ) AS running
         WHERE under = $2 OR ($1 = 'key' AND starts_with(under, $3))
         ON CONFLICT DO NOTHING",
    )
    .bind::<Text, _>(&limit.scope)
    .bind::<Text, _>(&limit.name)
    .bind::<Nullable<Text>, _>(beginning)
    .execute(connection)
}

/// False: there was none.
pub fn remove_limit(
    connection: &mut PgConnection,
    scope: Scope,
    name: &str,
    by: &Caller,
) -> QueryResult<bool> {
    connection.transaction(|connection| {
        let removed =
            diesel::delete(limits::table.find((scope.as_str(), name))).execute(connection)?;
        if removed > 0 {
            audit::note_other(
                connection,
                Actor::key(by),
                "limit.remove",
                json!({"scope": scope, "name": name}),
            )?;
        }
        Ok(removed > 0)
    })
}

/// Forgets the state of limits that nobody has touched for a week, when every bucket is full again, and what is left of
/// limits that are gone.
pub fn forget_idle(connection: &mut PgConnection, limit: i64) -> QueryResult<usize> {
    let buckets = diesel::sql_query(
        "DELETE FROM limit_buckets WHERE (scope, name) IN (
            SELECT scope, name FROM limit_buckets AS b
            WHERE filled_at < now() - interval '7 days'
                AND NOT EXISTS (SELECT 1 FROM limit_holds AS h WHERE h.scope = b.scope AND h.name = b.name)
                AND NOT EXISTS (SELECT 1 FROM limit_waits AS w WHERE w.scope = b.scope AND w.name = b.name)
            LIMIT $1 FOR UPDATE SKIP LOCKED)",
    )
    .bind::<BigInt, _>(limit)
    .execute(connection)?;
    let holds = diesel::sql_query(
        "DELETE FROM limit_holds WHERE (scope, name, task_id) IN (
            SELECT scope, name, task_id FROM limit_holds AS h
            WHERE NOT EXISTS (SELECT 1 FROM tasks AS t WHERE t.id = h.task_id AND t.attempt = h.attempt AND t.status = 'PROCESSING')
            LIMIT $1 FOR UPDATE SKIP LOCKED)",
    )
    .bind::<BigInt, _>(limit)
    .execute(connection)?;
    // Called up an hour ago and never claimed: it was cancelled, or has long gone another way.
    let waits = diesel::sql_query(
        "DELETE FROM limit_waits WHERE task_id IN (
            SELECT w.task_id FROM limit_waits AS w WHERE w.woken_at < now() - interval '1 hour'
                AND NOT EXISTS (SELECT 1 FROM tasks AS t WHERE t.id = w.task_id AND t.status IN ('PENDING', 'RETRYING'))
            LIMIT $1 FOR UPDATE SKIP LOCKED)",
    )
    .bind::<BigInt, _>(limit)
    .execute(connection)?;
    Ok(buckets + holds + waits)
}
