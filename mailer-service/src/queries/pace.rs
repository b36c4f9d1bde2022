//! Gates for mails, shared by all workers: each is a rate and the time at which the next mail may pass.

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    sql_types::{BigInt, Double, Integer, Text},
};
use shared::config::Throttle;

#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Gate {
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Mails per second.
    #[diesel(sql_type = Double)]
    pub rate: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, QueryableByName)]
pub struct Places {
    /// How many may pass.
    #[diesel(sql_type = Integer)]
    pub granted: i32,
    /// Seconds from now until the first of them; 0: at once.
    #[diesel(sql_type = Double)]
    pub first_s: f64,
    /// Per second.
    #[diesel(sql_type = Double)]
    pub rate: f64,
}

pub fn gates(connection: &mut PgConnection) -> QueryResult<Vec<Gate>> {
    diesel::sql_query("SELECT name, rate FROM mail_gates").load(connection)
}

/// Living workers that send mails.
pub fn mailers(connection: &mut PgConnection) -> QueryResult<i64> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    diesel::sql_query(
        "SELECT count(*) AS count FROM workers WHERE state = 'alive' AND 'mail' = ANY(queues)",
    )
    .get_result(connection)
    .map(|row: Count| row.count)
}

/// Makes the gates of relays what the configuration says; 0: none.
pub fn set_relays(connection: &mut PgConnection, relays: &[(String, f64)]) -> QueryResult<()> {
    for (name, rate) in relays {
        if *rate > 0.0 {
            diesel::sql_query(
                "INSERT INTO mail_gates (name, rate) VALUES ($1, $2)
                 ON CONFLICT (name) DO UPDATE SET rate = EXCLUDED.rate WHERE mail_gates.rate <> EXCLUDED.rate",
            )
            .bind::<Text, _>(name)
            .bind::<Double, _>(*rate)
            .execute(connection)?;
        } else {
            diesel::sql_query("DELETE FROM mail_gates WHERE name = $1")
                .bind::<Text, _>(name)
                .execute(connection)?;
        }
    }
    Ok(())
}

/// Places for so many mails, each within `horizon_s` seconds from now; none: there is no such gate (any more). An idle
/// gate lets those of one second pass at once.
pub fn take(
    connection: &mut PgConnection,
    name: &str,
    wanted: i32,
    horizon_s: f64,
) -> QueryResult<Option<Places>> {
    let places: Vec<Places> = diesel::sql_query(
        "WITH gate AS (
            SELECT name, rate, GREATEST(next_at, clock_timestamp() - interval '1 second') AS start, clock_timestamp() AS at
            FROM mail_gates WHERE name = $1 FOR UPDATE
         ), granted AS (
            SELECT *, LEAST($2, GREATEST(0, floor(EXTRACT(EPOCH FROM at - start + make_interval(secs => $3))::float8 * rate) + 1))::int
                AS count
            FROM gate
         )
         UPDATE mail_gates AS g SET next_at = start + make_interval(secs => count / granted.rate)
         FROM granted WHERE g.name = granted.name
         RETURNING count AS granted, GREATEST(0, EXTRACT(EPOCH FROM start - at))::float8 AS first_s, granted.rate",
    )
    .bind::<Text, _>(name)
    .bind::<Integer, _>(wanted)
    .bind::<Double, _>(horizon_s)
    .load(connection)?;
    Ok(places.into_iter().next())
}

/// A domain has asked for less: half of its rate, once in five seconds. Returns the rate if it was changed.
pub fn slow(
    connection: &mut PgConnection,
    name: &str,
    throttle: &Throttle,
) -> QueryResult<Option<f64>> {
    let changed: Vec<Gate> = diesel::sql_query(
        "INSERT INTO mail_gates AS g (name, rate) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET rate = GREATEST(g.rate / 2, $3), changed_at = now()
            WHERE g.changed_at < now() - interval '5 seconds'
         RETURNING g.name, g.rate",
    )
    .bind::<Text, _>(name)
    .bind::<Double, _>(throttle.first_per_s)
    .bind::<Double, _>(throttle.lowest_per_s)
    .load(connection)?;
    Ok(changed.into_iter().next().map(|gate| gate.rate))
}

/// Doubles the rate of domains that have not complained for a while, and forgets those that are fast again.
pub fn recover(connection: &mut PgConnection, throttle: &Throttle) -> QueryResult<()> {
    diesel::sql_query(
        "UPDATE mail_gates SET rate = rate * 2, changed_at = now()
         WHERE name LIKE 'domain:%' AND changed_at < now() - make_interval(secs => $1)",
    )
    .bind::<Double, _>(f64::from(throttle.recover_s))
    .execute(connection)?;
    diesel::sql_query("DELETE FROM mail_gates WHERE name LIKE 'domain:%' AND rate > $1")
        .bind::<Double, _>(throttle.highest_per_s)
        .execute(connection)
        .map(|_| ())
}
