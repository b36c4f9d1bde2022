//! The limits of a key: its own words, else the configured ones.

use super::purse::Terms;
use serde::Serialize;
use shared::config::Auth;
use std::time::Duration;

/// What a key says itself. None: as configured; 0: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct OwnLimits {
    pub rate_per_s: Option<f64>,
    pub burst: Option<i32>,
    pub daily_quota: Option<i64>,
}

/// What holds for a key.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    pub rate: Option<Rate>,
    /// Tasks in a day of UTC.
    pub daily: Option<u64>,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    pub per_s: f64,
    pub burst: f64,
}

impl Limits {
    pub fn of(own: OwnLimits, usual: &Auth) -> Self {
        let per_s = own.rate_per_s.unwrap_or(usual.rate_per_s);
        // A burst that was configured belongs to the rate that was configured.
        let usual_burst = own.rate_per_s.is_none().then_some(usual.burst);
        let burst = own
            .burst
            .map(f64::from)
            .or(usual_burst.map(f64::from))
            .filter(|burst| *burst >= 1.0)
            .unwrap_or_else(|| per_s.ceil().max(1.0));
        let daily = own.daily_quota.unwrap_or(usual.daily_quota.into());
        Self {
            rate: (per_s > 0.0).then_some(Rate { per_s, burst }),
            daily: u64::try_from(daily).ok().filter(|daily| *daily > 0),
        }
    }

    pub fn is_none(&self) -> bool {
        self.rate.is_none() && self.daily.is_none()
    }
}

impl Rate {
    pub(super) fn terms(self) -> Terms {
        Terms {
            most: self.burst,
            per_s: self.per_s,
            ahead: 1.0 / 8.0,
            pause: Duration::from_millis(10),
        }
    }

    /// Seconds in which an empty bucket is full.
    pub fn window(self) -> f64 {
        (self.burst / self.per_s).ceil().max(1.0)
    }
}

pub(super) fn daily_terms(quota: u64) -> Terms {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a quota beyond 2^53 may be off by a few"
    )]
    let most = quota as f64;
    Terms {
        most,
        per_s: 0.0,
        ahead: 1.0 / 100.0,
        pause: Duration::from_millis(250),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_more_than_the_configuration() {
        let usual = Auth {
            rate_per_s: 10.0,
            burst: 40,
            daily_quota: 1000,
        };
        let of = |rate_per_s, burst, daily_quota| {
            let own = OwnLimits {
                rate_per_s,
                burst,
                daily_quota,
            };
            let limits = Limits::of(own, &usual);
            (
                limits.rate.map(|rate| (rate.per_s, rate.burst)),
                limits.daily,
            )
        };
        assert_eq!(of(None, None, None), (Some((10.0, 40.0)), Some(1000)));
        assert_eq!(of(Some(0.0), None, Some(0)), (None, None));
        assert_eq!(of(Some(2.5), None, Some(7)), (Some((2.5, 3.0)), Some(7)));
        assert_eq!(of(Some(0.1), None, None).0, Some((0.1, 1.0)));
        assert_eq!(of(None, Some(5), None).0, Some((10.0, 5.0)));
        assert!(Limits::of(OwnLimits::default(), &Auth::default()).is_none());
    }
}
