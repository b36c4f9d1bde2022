//! How far this process's clock is from the database's. Due times are the database's alone; but ids, the times in mails
//! and the moment from which the relay publishes again come from the processes, so their clocks should agree.

use chrono::{DateTime, Utc};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_types::Timestamptz};

/// Seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Skew {
    /// By how much this process's clock is ahead of the database's; below 0: behind.
    pub ahead: f64,
    /// By how much that may be wrong: half of what the question took.
    pub give: f64,
}

impl Skew {
    /// The database's time was read between `before` and `after`.
    fn between(before: DateTime<Utc>, database: DateTime<Utc>, after: DateTime<Utc>) -> Self {
        let seconds = |from: DateTime<Utc>, to: DateTime<Utc>| (to - from).as_seconds_f64();
        let give = seconds(before, after).max(0.0) / 2.0;
        Self {
            ahead: seconds(database, before) + give,
            give,
        }
    }

    /// The least that the clocks differ by.
    pub fn certain(self) -> f64 {
        (self.ahead.abs() - self.give).max(0.0)
    }
}

/// Asks the database for its time.
pub fn skew(connection: &mut PgConnection) -> QueryResult<Skew> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Timestamptz)]
        time: DateTime<Utc>,
    }
    let before = Utc::now();
    let row: Row = diesel::sql_query("SELECT clock_timestamp() AS time").get_result(connection)?;
    Ok(Skew::between(before, row.time, Utc::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_proves_little() {
        let at = |ms: i64| DateTime::from_timestamp_millis(1_700_000_000_000 + ms).unwrap();
        let skew = Skew::between(at(10_000), at(5_100), at(10_200));
        assert!((skew.ahead - 5.0).abs() < 1e-6 && (skew.certain() - 4.9).abs() < 1e-6);
        let skew = Skew::between(at(10_000), at(10_900), at(12_000));
        assert!(skew.certain() < 1e-6, "{skew:?}");
        let skew = Skew::between(at(10_000), at(13_100), at(10_200));
        assert!((skew.ahead + 3.0).abs() < 1e-6 && skew.certain() > 2.8);
        // A clock that was set back meanwhile.
        assert!(Skew::between(at(10_000), at(10_000), at(9_000)).give.abs() < 1e-6);
    }
}
