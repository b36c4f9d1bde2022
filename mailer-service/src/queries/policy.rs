//! Limits and pauses, and whether this worker is to be drained.

use diesel::{
    ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult, RunQueryDsl,
};
use shared::{
    limits::{Allowance, Policy, Rule, Scope},
    schema::{limits, pauses, workers},
    task::Queue,
};
use uuid::Uuid;

type Row = (String, String, Option<f64>, Option<i32>, Option<i32>);

/// Everything that is in force.
pub fn read(connection: &mut PgConnection) -> QueryResult<Policy> {
    let rules: Vec<Row> = limits::table
        .select((
            limits::scope,
            limits::name,
            limits::rate,
            limits::burst,
            limits::concurrency,
        ))
        .load(connection)?;
    let pauses: Vec<(String, String)> = pauses::table
        .select((pauses::scope, pauses::name))
        .load(connection)?;
    let rules = rules.into_iter().filter_map(|row| {
        let (scope, name, rate, burst, concurrency) = row;
        let allowance = Allowance {
            rate,
            burst,
            concurrency,
            paused: false,
        };
        Some(Rule {
            scope: Scope::parse(&scope)?,
            name,
            allowance,
        })
    });
    let of = |wanted: Scope| {
        pauses
            .iter()
            .filter(move |(scope, _)| scope == wanted.as_str())
            .map(|(_, name)| name.clone())
    };
    let queues = of(Scope::Queue).filter_map(|name| Queue::parse(&name));
    Ok(Policy::new(rules, of(Scope::Kind), queues))
}

/// What an operator wants of this worker: it takes nothing new, and then stays, ends or begins anew.
pub fn drain(connection: &mut PgConnection, worker: Uuid) -> QueryResult<Option<String>> {
    workers::table
        .find(worker)
        .select(workers::drain)
        .first(connection)
        .optional()
        .map(Option::flatten)
}

/// Shows that this worker drains for a reason of its own.
pub fn note_drain(connection: &mut PgConnection, worker: Uuid, drain: &str) -> QueryResult<usize> {
    diesel::update(workers::table.find(worker))
        .filter(workers::drain.is_null())
        .set(workers::drain.eq(drain))
        .execute(connection)
}
