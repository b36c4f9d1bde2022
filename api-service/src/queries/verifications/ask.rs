//! Asking for a code: limits, row and mail in one transaction, under a lock of the recipient's.

use super::{
    Row,
    limits::{Throttled, count_sources, lock, note_sent, too_many},
};
use crate::{
    intake::{Answer, Idempotency, NewTask, Outcome, Refusal, Submission},
    queries::accept::{self, Accept},
};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    Connection, ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult,
    RunQueryDsl, SelectableHelper,
    result::Error,
    sql_types::{Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use shared::{
    category::Category,
    config::Verification as Policy,
    schema::verifications,
    suppression::{About, rows},
    verification::Form,
};
use std::time::Duration;
use uuid::Uuid;

const THROTTLED: Refusal = Refusal {
    code: "recipient_throttled",
    message: "the recipient has been sent as many codes as there may be; nothing was sent",
};

/// A request for a code.
pub struct Ask<'a> {
    /// Which one is to be sent again; none: one for this recipient and purpose.
    pub again: Option<Uuid>,
    pub recipient: &'a str,
    pub canonical: &'a str,
    /// The forms in which the recipient may be suppressed.
    pub forms: &'a [String],
    pub purpose: &'a str,
    pub locale: Option<&'a str>,
    pub form: Form,
    pub pepper: &'a str,
    pub caller: Uuid,
    /// The caller may know nothing of the recipient.
    pub is_open: bool,
    /// MAC of the client's address, and what counts for the caller's key; with the most in an hour.
    pub sources: &'a [(String, u32)],
    pub policy: &'a Policy,
    pub relay_after: Duration,
    pub result_ttl_s: Option<i32>,
    pub idempotency: Option<Idempotency>,
}

#[derive(Debug)]
pub enum Asked {
    /// With the mail's task, which has been stored with it, and until when it can't be sent again.
    Done(Box<Row>, Vec<NewTask>),
    Throttled(Throttled),
    /// There is none such, or nothing of it can be sent again.
    Over(&'static str),
    /// The Idempotency-Key had been used.
    Replayed(Outcome),
}

/// Does it all, or nothing. `answer` makes what is stored under the Idempotency-Key, `task` the mail's task.
pub fn ask(
    connection: &mut PgConnection,
    ask: &Ask<'_>,
    answer: &dyn Fn(&Row) -> Answer,
    task: &dyn Fn(&Row) -> Option<NewTask>,
) -> QueryResult<Asked> {
    let mut outcome = None;
    let done = connection.transaction(|connection| {
        let asked = ask_within(connection, ask, answer, task)?;
        let is_done = matches!(asked, Asked::Done(..));
        outcome = Some(asked);
        // Whatever else it is, nothing of it is to stay.
        if is_done {
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

fn ask_within(
    connection: &mut PgConnection,
    ask: &Ask<'_>,
    answer: &dyn Fn(&Row) -> Answer,
    task: &dyn Fn(&Row) -> Option<NewTask>,
) -> QueryResult<Asked> {
    if let Some(throttled) = count_sources(connection, ask.sources)? {
        return Ok(Asked::Throttled(throttled));
    }
    let sent = lock(connection, ask.canonical)?;
    let throttled = too_many(&sent.sent, sent.at, ask.policy);
    if let (Some(throttled), false) = (throttled, ask.is_open) {
        return Ok(Asked::Throttled(throttled));
    }
    let earlier = earlier(connection, ask, sent.at)?;
    if let (Some(_), None) = (ask.again, &earlier) {
        return Ok(Asked::Over("there is none such"));
    }
    if let Some(row) = earlier.as_ref().filter(|_| ask.again.is_some())
        && (row.state == "verified" || (row.state == "disowned" && !ask.is_open))
    {
        return Ok(Asked::Over("it is settled"));
    }
    let refusal = suppression(connection, ask)?.or_else(|| throttled.map(|_| THROTTLED));
    let now = Now {
        task_id: Uuid::now_v7(),
        at: sent.at,
        is_sent: refusal.is_none(),
    };
    let row = match earlier {
        Some(row) => {
            // Who did not ask for it is suppressed, and to who may know nothing all that are look alike.
            let is_held_back = throttled.is_some() || (ask.is_open && refusal.is_some());
            renew(connection, &row, ask, &now, is_held_back)?
        }
        None => insert(connection, ask, &now, throttled.is_some())?,
    };
    if throttled.is_none() {
        note_sent(connection, ask.canonical)?;
    }
    let Some(mut task) = task(&row) else {
        return Err(Error::NotFound);
    };
    task.refusal = refusal;
    let mut idempotency = ask.idempotency.clone();
    if let Some(idempotency) = &mut idempotency {
        idempotency.answer = answer(&row);
    }
    let submissions = [Submission {
        tasks: vec![task],
        idempotency,
    }];
    let statement = Accept::new(&submissions, ask.relay_after, ask.result_ttl_s);
    let outcomes = accept::run(connection, &statement, &submissions)?;
    let [submission] = submissions;
    match outcomes.into_iter().next() {
        Some(Outcome::Stored) | None => Ok(Asked::Done(Box::new(row), submission.tasks)),
        Some(other) => Ok(Asked::Replayed(other)),
    }
}

/// The one that is to be sent again, or that is still open for this recipient and purpose. Callers that may know nothing
/// get a new one each time: else its age would tell that somebody has asked before.
fn earlier(
    connection: &mut PgConnection,
    ask: &Ask<'_>,
    at: DateTime<Utc>,
) -> QueryResult<Option<Row>> {
    if let Some(id) = ask.again {
        return verifications::table
            .find(id)
            .select(Row::as_select())
            .for_update()
            .first(connection)
            .optional();
    }
    if ask.is_open {
        return Ok(None);
    }
    verifications::table
        .filter(verifications::canonical.eq(ask.canonical))
        .filter(verifications::purpose.eq(ask.purpose))
        .filter(verifications::form.eq(ask.form.as_str()))
        .filter(verifications::state.eq("pending"))
        .filter(verifications::open.eq(false))
        .filter(verifications::expires_at.gt(at))
        .filter(verifications::attempts.lt(i32::from(ask.policy.max_attempts)))
        .order(verifications::id.desc())
        .select(Row::as_select())
        .for_update()
        .first(connection)
        .optional()
}

fn suppression(connection: &mut PgConnection, ask: &Ask<'_>) -> QueryResult<Option<Refusal>> {
    let about = About {
        category: Category::Security,
        purpose: Some(ask.purpose),
    };
    let found = rows::blocking(connection, ask.forms)?;
    let is_blocked = found.iter().any(|row| row.concerns(about));
    Ok(is_blocked.then_some(Refusal::SUPPRESSED))
}

/// The mail that is made now.
struct Now {
    task_id: Uuid,
    at: DateTime<Utc>,
    is_sent: bool,
}

fn insert(
    connection: &mut PgConnection,
    ask: &Ask<'_>,
    now: &Now,
    decoy: bool,
) -> QueryResult<Row> {
    diesel::insert_into(verifications::table)
        .values((
            verifications::id.eq(Uuid::now_v7()),
            verifications::purpose.eq(ask.purpose),
            verifications::recipient.eq(ask.recipient),
            verifications::canonical.eq(ask.canonical),
            verifications::pepper.eq(ask.pepper),
            verifications::form.eq(ask.form.as_str()),
            verifications::open.eq(ask.is_open),
            verifications::decoy.eq(decoy),
            verifications::locale.eq(ask.locale),
            verifications::task_id.eq(now.task_id),
            verifications::sends.eq(i32::from(now.is_sent)),
            verifications::created_by.eq(ask.caller),
            verifications::created_at.eq(now.at),
            verifications::expires_at.eq(now.at + TimeDelta::seconds(ask.policy.ttl_s.into())),
        ))
        .returning(Row::as_returning())
        .get_result(connection)
}

/// The same code while it is of use; else another one, and the old one is dead. Where nothing is sent, for it may not be,
/// everything stays as it is.
fn renew(
    connection: &mut PgConnection,
    row: &Row,
    ask: &Ask<'_>,
    now: &Now,
    is_held_back: bool,
) -> QueryResult<Row> {
    let is_of_use = row.state == "pending"
        && row.expires_at > now.at
        && row.attempts < i32::from(ask.policy.max_attempts);
    // A decoy that is sent in earnest, once there is room, is as good as any other. To who may know nothing it looks renewed
    // in any case, and no code is right.
    let renewed = !is_of_use && (!is_held_back || ask.is_open);
    diesel::sql_query(
        "UPDATE verifications SET
            generation = generation + CASE WHEN $2 THEN 1 ELSE 0 END,
            attempts = CASE WHEN $2 THEN 0 ELSE attempts END,
            state = CASE WHEN $2 THEN 'pending' ELSE state END,
            pepper = CASE WHEN $2 THEN $3 ELSE pepper END,
            expires_at = CASE WHEN $2 THEN $4 ELSE expires_at END,
            decoy = CASE WHEN $2 THEN $5 ELSE decoy AND $5 END,
            sends = sends + CASE WHEN $6 THEN 1 ELSE 0 END,
            locale = COALESCE($7, locale),
            task_id = $8
         WHERE id = $1",
    )
    .bind::<SqlUuid, _>(row.id)
    .bind::<Bool, _>(renewed)
    .bind::<Text, _>(ask.pepper)
    .bind::<Timestamptz, _>(now.at + TimeDelta::seconds(ask.policy.ttl_s.into()))
    .bind::<Bool, _>(is_held_back)
    .bind::<Bool, _>(now.is_sent)
    .bind::<Nullable<Text>, _>(ask.locale)
    .bind::<SqlUuid, _>(now.task_id)
    .execute(connection)?;
    verifications::table
        .find(row.id)
        .select(Row::as_select())
        .first(connection)
}
