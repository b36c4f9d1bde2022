//! People who have signed up.

use super::{
    accept::{self, Accept},
    audit::{self, Actor},
    erasures, operate,
    verifications::{Throttled, count_sources},
};
use crate::{
    auth::Caller,
    intake::{Idempotency, NewTask, Outcome, Refusal, Submission},
};
use chrono::{DateTime, Utc};
use diesel::{
    BoolExpressionMethods as _, Connection, ExpressionMethods, OptionalExtension, PgConnection,
    QueryDsl, QueryResult, Queryable, RunQueryDsl, Selectable, SelectableHelper, dsl::now,
    result::Error, sql_types::Text,
};
use serde_json::json;
use shared::{
    category::Category,
    event,
    outbox::{self, OutboxRow},
    schema::users,
    suppression::{About, rows},
};
use std::time::Duration;
use uuid::Uuid;

const KNOWN: Refusal = Refusal {
    code: "user_exists",
    message: "somebody with this address has signed up before; nothing was sent",
};

#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = users)]
pub struct Row {
    pub id: Uuid,
    pub email: String,
    pub canonical: String,
    pub username: String,
    pub locale: Option<String>,
    pub verified_at: Option<DateTime<Utc>>,
    pub task_id: Option<Uuid>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Somebody signs up.
pub struct New<'a> {
    pub id: Uuid,
    pub email: &'a str,
    pub canonical: &'a str,
    /// The forms in which the address may be suppressed.
    pub forms: &'a [String],
    pub username: &'a str,
    pub locale: Option<&'a str>,
    pub verified_at: Option<DateTime<Utc>>,
    pub created_by: Uuid,
    /// The caller may not know whether there was such a user.
    pub is_open: bool,
    pub sources: &'a [(String, u32)],
    /// The welcome mail, or none.
    pub welcome: Vec<NewTask>,
    pub traceparent: Option<&'a str>,
    pub relay_after: Duration,
    pub result_ttl_s: Option<i32>,
    pub idempotency: Option<Idempotency>,
}

#[derive(Debug)]
pub enum Created {
    /// With the tasks that were stored with it.
    Done(Box<Row>, Vec<NewTask>),
    /// There was one with this address; to a caller that may not know, with the tasks that were stored for it.
    Exists(Uuid, Vec<NewTask>),
    Throttled(Throttled),
    /// The Idempotency-Key had been used.
    Replayed(Outcome),
}

/// Stores the user, their welcome mail and the event, or nothing. `answer` makes what is stored under the Idempotency-Key.
pub fn create(
    connection: &mut PgConnection,
    new: New<'_>,
    answer: &dyn Fn(&Row) -> String,
) -> QueryResult<Created> {
    let mut outcome = None;
    let done = connection.transaction(|connection| {
        let is_open = new.is_open;
        let created = create_within(connection, new, answer)?;
        let is_kept = match &created {
            Created::Done(..) => true,
            Created::Exists(..) => is_open,
            Created::Throttled(_) | Created::Replayed(_) => false,
        };
        outcome = Some(created);
        if is_kept {
            Ok(())
        } else {
            Err(Error::RollbackTransaction)
        }
    });
    match (done, outcome) {
        (Ok(()) | Err(Error::RollbackTransaction), Some(outcome)) => Ok(outcome),
        (Err(error), _) => Err(error),
        (Ok(()), None) => Err(Error::NotFound),
    }
}

fn create_within(
    connection: &mut PgConnection,
    mut new: New<'_>,
    answer: &dyn Fn(&Row) -> String,
) -> QueryResult<Created> {
    if let Some(throttled) = count_sources(connection, new.sources)? {
        return Ok(Created::Throttled(throttled));
    }
    let is_blocked = {
        let about = About {
            category: Category::Transactional,
            purpose: None,
        };
        let found = rows::blocking(connection, new.forms)?;
        found.iter().any(|row| row.concerns(about))
    };
    let stored: Option<Row> = diesel::insert_into(users::table)
        .values((
            users::id.eq(new.id),
            users::email.eq(new.email),
            users::canonical.eq(new.canonical),
            users::username.eq(new.username),
            users::locale.eq(new.locale),
            users::verified_at.eq(new.verified_at),
            users::task_id.eq(new.welcome.first().map(|task| task.id.0)),
            users::created_by.eq(new.created_by),
        ))
        .on_conflict(users::canonical)
        .do_nothing()
        .returning(Row::as_returning())
        .get_result(connection)
        .optional()?;
    let row = match stored {
        Some(row) => Ok(row),
        None => Err(of_address(connection, new.canonical)?),
    };
    if let (Err(existing), false) = (&row, new.is_open) {
        return Ok(Created::Exists(existing.id, Vec::new()));
    }
    // A caller that may not know is answered after the same work.
    for task in &mut new.welcome {
        task.refusal = match &row {
            Err(_) => Some(KNOWN),
            Ok(_) => is_blocked.then_some(Refusal::SUPPRESSED),
        };
    }
    if let Some(idempotency) = &mut new.idempotency {
        let (Ok(row) | Err(row)) = &row;
        idempotency.answer.body = answer(row);
    }
    let submissions = [Submission {
        tasks: new.welcome,
        idempotency: new.idempotency,
    }];
    let statement = Accept::new(&submissions, new.relay_after, new.result_ttl_s);
    let outcomes = accept::run(connection, &statement, &submissions)?;
    if let Some(earlier) = outcomes
        .into_iter()
        .next()
        .filter(|outcome| *outcome != Outcome::Stored)
    {
        return Ok(Created::Replayed(earlier));
    }
    let [Submission { tasks, .. }] = submissions;
    match row {
        Ok(row) => {
            let created = OutboxRow::of_event(event::USER_CREATED, row.id, new.traceparent);
            outbox::insert(connection, &[created])?;
            Ok(Created::Done(Box::new(row), tasks))
        }
        Err(existing) => Ok(Created::Exists(existing.id, tasks)),
    }
}

fn of_address(connection: &mut PgConnection, canonical: &str) -> QueryResult<Row> {
    users::table
        .filter(users::canonical.eq(canonical))
        .select(Row::as_select())
        .first(connection)
}

pub fn find(connection: &mut PgConnection, id: Uuid) -> QueryResult<Option<Row>> {
    users::table
        .find(id)
        .select(Row::as_select())
        .first(connection)
        .optional()
}

/// The newest first, those below an id.
pub fn list(
    connection: &mut PgConnection,
    canonical: Option<&str>,
    below: Option<Uuid>,
    limit: i64,
) -> QueryResult<Vec<Row>> {
    let mut query = users::table.into_boxed();
    if let Some(canonical) = canonical {
        query = query.filter(users::canonical.eq(canonical.to_owned()));
    }
    if let Some(below) = below {
        query = query.filter(users::id.lt(below));
    }
    query
        .order(users::id.desc())
        .limit(limit)
        .select(Row::as_select())
        .load(connection)
}

/// Notes that the address was proven, if it is a user's.
pub fn verify(connection: &mut PgConnection, canonical: &str) -> QueryResult<()> {
    let verified: Option<Uuid> = diesel::update(
        users::table.filter(
            users::canonical
                .eq(canonical)
                .and(users::verified_at.is_null()),
        ),
    )
    .set((users::verified_at.eq(now), users::updated_at.eq(now)))
    .returning(users::id)
    .get_result(connection)
    .optional()?;
    if let Some(id) = verified {
        outbox::insert(
            connection,
            &[OutboxRow::of_event(event::USER_VERIFIED, id, None)],
        )?;
    }
    Ok(())
}

/// Deletes the user and what is known by their address; what tasks hold is gone through afterwards. Suppressions keep
/// what `erased` makes of the address, which is returned too and tells only who knows it. None: there is no such user.
pub fn delete(
    connection: &mut PgConnection,
    id: Uuid,
    erased: &dyn Fn(&str) -> Option<String>,
    by: &Caller,
) -> QueryResult<Option<(erasures::Row, String)>> {
    operate::persistently(connection, |connection| {
        let found: Option<(String, String)> = users::table
            .find(id)
            .select((users::email, users::canonical))
            .first(connection)
            .optional()?;
        let Some((email, canonical)) = found else {
            return Ok(None);
        };
        let erased = erased(&email).ok_or(Error::NotFound)?;
        // In the order in which asking and checking lock them; nobody asks for the person meanwhile.
        for statement in [
            "INSERT INTO verification_recipients AS r (canonical) VALUES ($1)
             ON CONFLICT (canonical) DO UPDATE SET updated_at = now()",
            "DELETE FROM verifications WHERE canonical = $1",
            "DELETE FROM verification_tries WHERE canonical = $1",
            "DELETE FROM verification_recipients WHERE canonical = $1",
        ] {
            diesel::sql_query(statement)
                .bind::<Text, _>(&canonical)
                .execute(connection)?;
        }
        if diesel::delete(users::table.find(id)).execute(connection)? == 0 {
            return Ok(None);
        }
        erasures::hide_suppressions(connection, &canonical, &erased)?;
        let erasure = erasures::begin(connection, id, &canonical, &erased)?;
        let deleted = OutboxRow::of_event(event::USER_DELETED, id, None);
        outbox::insert(connection, &[deleted])?;
        audit::note_other(
            connection,
            Actor::key(by),
            "user.delete",
            json!({"user": id}),
        )?;
        Ok(Some((erasure, erased)))
    })
}
