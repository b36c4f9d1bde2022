//! How many codes may be asked for: by who asks, and by whom they are sent to.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    sql_types::{Array, Integer, Text, Timestamptz},
};
use shared::config::Verification as Policy;

/// Not now; in so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttled {
    pub seconds: u64,
    /// What is too much; for people.
    pub what: &'static str,
}

/// Counts the request for each source; the first that asks too often stops it.
pub fn count_sources(
    connection: &mut PgConnection,
    sources: &[(String, u32)],
) -> QueryResult<Option<Throttled>> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = Text)]
        source: String,
        #[diesel(sql_type = Integer)]
        asked: i32,
        #[diesel(sql_type = Integer)]
        left: i32,
    }
    if sources.is_empty() {
        return Ok(None);
    }
    // In one order, so that two requests don't wait for each other.
    let mut names: Vec<&str> = sources.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let counts: Vec<Count> = diesel::sql_query(
        "INSERT INTO verification_windows AS w (source, hour, asked)
         SELECT source, date_trunc('hour', now()), 1 FROM unnest($1::text[]) AS source
         ON CONFLICT (source, hour) DO UPDATE SET asked = w.asked + 1
         RETURNING source, asked, CEIL(EXTRACT(EPOCH FROM hour + interval '1 hour' - now()))::int AS left",
    )
    .bind::<Array<Text>, _>(names)
    .load(connection)?;
    let over = counts.iter().find(|count| {
        let most = sources.iter().find(|(name, _)| *name == count.source);
        most.is_some_and(|(_, most)| i64::from(count.asked) > i64::from(*most))
    });
    Ok(over.map(|count| Throttled {
        seconds: u64::try_from(count.left).unwrap_or(1).max(1),
        what: "codes for this client or key in an hour",
    }))
}

#[derive(QueryableByName)]
pub(super) struct Sent {
    #[diesel(sql_type = Array<Timestamptz>)]
    pub(super) sent: Vec<DateTime<Utc>>,
    #[diesel(sql_type = Timestamptz)]
    pub(super) at: DateTime<Utc>,
}

/// Until the end of the transaction nobody else asks for this recipient.
pub(super) fn lock(connection: &mut PgConnection, canonical: &str) -> QueryResult<Sent> {
    diesel::sql_query(
        "INSERT INTO verification_recipients AS r (canonical) VALUES ($1)
         ON CONFLICT (canonical) DO UPDATE SET updated_at = now()
         RETURNING r.sent, clock_timestamp() AS at",
    )
    .bind::<Text, _>(canonical)
    .get_result(connection)
}

pub(super) fn note_sent(connection: &mut PgConnection, canonical: &str) -> QueryResult<()> {
    diesel::sql_query(
        "UPDATE verification_recipients SET updated_at = now(), sent = array_append(
            ARRAY(SELECT at FROM unnest(sent) AS at WHERE at > now() - interval '1 day'), clock_timestamp())
         WHERE canonical = $1",
    )
    .bind::<Text, _>(canonical)
    .execute(connection)
    .map(|_| ())
}

/// Whether the recipient has been sent as many as there may be.
pub(super) fn too_many(
    sent: &[DateTime<Utc>],
    at: DateTime<Utc>,
    policy: &Policy,
) -> Option<Throttled> {
    let limits = [
        (
            1,
            i64::from(policy.cooldown_s),
            "mails to this recipient at once",
        ),
        (
            policy.max_per_hour,
            3600,
            "mails to this recipient in an hour",
        ),
        (
            policy.max_per_day,
            86_400,
            "mails to this recipient in a day",
        ),
    ];
    let waits = limits.into_iter().filter_map(|(most, seconds, what)| {
        if most == 0 || seconds == 0 {
            return None;
        }
        let span = TimeDelta::seconds(seconds);
        let mut within: Vec<_> = sent.iter().filter(|time| at - **time < span).collect();
        within.sort_unstable();
        // The one that has to leave the span before there is room.
        let place = within.len().checked_sub(usize::try_from(most).ok()?)?;
        let left = **within.get(place)? + span - at;
        let seconds = u64::try_from(left.num_milliseconds().div_euclid(1000) + 1).unwrap_or(1);
        Some(Throttled { seconds, what })
    });
    waits.max_by_key(|throttled| throttled.seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        shared::config::Config::with(&[]).unwrap().verification
    }

    #[test]
    fn mails_to_a_recipient_are_counted_in_each_span() {
        let at = Utc::now();
        let ago = |seconds: i64| at - TimeDelta::seconds(seconds);
        let wait = |sent: &[i64]| {
            let sent: Vec<_> = sent.iter().map(|seconds| ago(*seconds)).collect();
            too_many(&sent, at, &policy()).map(|throttled| throttled.seconds)
        };
        assert_eq!(wait(&[]), None);
        assert_eq!(wait(&[61]), None);
        assert_eq!(wait(&[20]), Some(41));
        assert_eq!(wait(&[100, 200, 300, 400]), None);
        assert_eq!(wait(&[100, 200, 300, 400, 3000]), Some(601));
        assert_eq!(wait(&[100, 200, 300, 400, 3601]), None);
        let hourly: Vec<i64> = (1..=12).map(|hour| hour * 3000).collect();
        assert_eq!(wait(&hourly), Some(86_400 - 36_000 + 1));
    }
}
