//! What a replay does next: a pure decision.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

/// Where a replay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReplayState {
    /// The canary is run.
    Running,
    /// The canary's outcomes are waited for.
    WaitingCanary,
    /// The rest is run, at the rate, while enough succeed.
    Rolling,
    /// Everything was run again, and enough succeeded.
    Completed,
    /// Too few succeeded: it stopped by itself.
    Stopped,
    /// Somebody stopped it.
    Cancelled,
}

impl ReplayState {
    const ALL: [Self; 6] = [
        Self::Running,
        Self::WaitingCanary,
        Self::Rolling,
        Self::Completed,
        Self::Stopped,
        Self::Cancelled,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::WaitingCanary => "WAITING_CANARY",
            Self::Rolling => "ROLLING",
            Self::Completed => "COMPLETED",
            Self::Stopped => "STOPPED",
            Self::Cancelled => "CANCELLED",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Outcomes that are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcomes {
    pub succeeded: i64,
    pub failed: i64,
}

impl Outcomes {
    pub fn settled(self) -> i64 {
        self.succeeded + self.failed
    }

    /// Of successes; none while there is no outcome.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn share(self) -> Option<f64> {
        (self.settled() > 0).then(|| self.succeeded as f64 / self.settled() as f64)
    }
}

/// A replay as its next step sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) state: ReplayState,
    pub(super) canary: i64,
    pub(super) at_most: i64,
    pub(super) min_success: f64,
    pub(super) max_waiting: i64,
    pub(super) replayed: i64,
    /// Every task that fits has been looked at.
    pub(super) is_exhausted: bool,
    pub(super) all: Outcomes,
    /// Those that the share is of.
    pub(super) recent: Outcomes,
    /// What the rate allows now.
    pub(super) allowance: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Decide again, in that state.
    Turn(ReplayState),
    /// Run so many again, if there are.
    Replay(i64),
    Wait,
    End(ReplayState, String),
}

pub(super) fn next(view: &View) -> Next {
    let waiting = view.replayed - view.all.settled();
    match view.state {
        ReplayState::Running => {
            let missing = view.canary.min(view.at_most) - view.replayed;
            if missing > 0 && !view.is_exhausted {
                Next::Replay(missing)
            } else {
                Next::Turn(ReplayState::WaitingCanary)
            }
        }
        ReplayState::WaitingCanary if waiting > 0 => Next::Wait,
        // The window is for what comes after.
        ReplayState::WaitingCanary => match too_few(view.all, view.min_success) {
            Some(reason) => Next::End(ReplayState::Stopped, format!("of the canary, {reason}")),
            None => Next::Turn(ReplayState::Rolling),
        },
        ReplayState::Rolling => {
            if let Some(reason) = too_few(view.recent, view.min_success) {
                return Next::End(ReplayState::Stopped, reason);
            }
            let left = view.at_most - view.replayed;
            if view.is_exhausted || left <= 0 {
                if waiting > 0 {
                    return Next::Wait;
                }
                let reason = format!(
                    "{} of {} tasks succeeded",
                    view.all.succeeded, view.replayed
                );
                return Next::End(ReplayState::Completed, reason);
            }
            match view.allowance.min(left).min(view.max_waiting - waiting) {
                ..=0 => Next::Wait,
                count => Next::Replay(count),
            }
        }
        ReplayState::Completed | ReplayState::Stopped | ReplayState::Cancelled => Next::Wait,
    }
}

fn too_few(outcomes: Outcomes, min_success: f64) -> Option<String> {
    let share = outcomes.share().filter(|share| *share < min_success)?;
    let (succeeded, settled) = (outcomes.succeeded, outcomes.settled());
    Some(format!(
        "{succeeded} of {settled} tasks succeeded, a share of {share:.3} and less than {min_success}"
    ))
}

/// How many the rate allows now, reckoned from `paced_at`: at most those of one second, however long ago that is.
pub(super) fn allowance(rate_per_s: f64, paced_at: DateTime<Utc>, now: DateTime<Utc>) -> i64 {
    let elapsed = (now - paced_at).as_seconds_f64().max(0.0);
    #[expect(clippy::cast_possible_truncation, reason = "a cast saturates")]
    let allowance = (elapsed * rate_per_s).min(rate_per_s.max(1.0)) as i64;
    allowance
}

/// What the next allowance is reckoned from, after `count` were run.
pub(super) fn paced(
    rate_per_s: f64,
    paced_at: DateTime<Utc>,
    count: i64,
    now: DateTime<Utc>,
) -> DateTime<Utc> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "microseconds are precise enough"
    )]
    let micros = |seconds: f64| TimeDelta::microseconds((seconds * 1e6) as i64);
    #[expect(clippy::cast_precision_loss, reason = "at most those of one second")]
    let spent = micros(count as f64 / rate_per_s);
    let longest = micros(1.0_f64.max(1.0 / rate_per_s));
    (paced_at + spent).max(now - longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VIEW: View = View {
        state: ReplayState::Running,
        canary: 10,
        at_most: 1000,
        min_success: 0.9,
        max_waiting: 50,
        replayed: 0,
        is_exhausted: false,
        all: of(0, 0),
        recent: of(0, 0),
        allowance: 20,
    };

    const fn of(succeeded: i64, failed: i64) -> Outcomes {
        Outcomes { succeeded, failed }
    }

    fn canary(all: Outcomes) -> Next {
        next(&View {
            state: ReplayState::WaitingCanary,
            replayed: 10,
            all,
            ..VIEW
        })
    }

    #[test]
    fn the_canary_decides() {
        assert_eq!(next(&VIEW), Next::Replay(10));
        let few = View {
            replayed: 4,
            is_exhausted: true,
            ..VIEW
        };
        assert_eq!(next(&few), Next::Turn(ReplayState::WaitingCanary));
        let small = View { at_most: 3, ..VIEW };
        assert_eq!(next(&small), Next::Replay(3));
        assert_eq!(canary(of(9, 0)), Next::Wait);
        assert_eq!(canary(of(0, 9)), Next::Wait);
        assert_eq!(canary(of(9, 1)), Next::Turn(ReplayState::Rolling));
        let Next::End(ReplayState::Stopped, reason) = canary(of(8, 2)) else {
            panic!("it goes on");
        };
        assert!(reason.contains("8 of 10 tasks succeeded, a share of 0.800 and less than 0.9"));
    }

    #[test]
    fn the_rest_goes_on_while_enough_succeed() {
        let rolling = |replayed, all, recent| View {
            state: ReplayState::Rolling,
            replayed,
            all,
            recent,
            ..VIEW
        };
        let good = rolling(100, of(95, 3), of(95, 3));
        assert_eq!(next(&good), Next::Replay(20));
        // The workers don't keep up.
        assert_eq!(next(&rolling(140, of(95, 3), of(95, 3))), Next::Replay(8));
        assert_eq!(next(&rolling(148, of(95, 3), of(95, 3))), Next::Wait);
        assert_eq!(
            next(&View {
                allowance: 0,
                ..good
            }),
            Next::Wait
        );
        assert!(matches!(
            next(&rolling(100, of(95, 3), of(5, 3))),
            Next::End(ReplayState::Stopped, _)
        ));
        let last = rolling(1000, of(995, 3), of(9, 0));
        assert_eq!(next(&last), Next::Wait);
        assert!(matches!(
            next(&View {
                all: of(996, 4),
                ..last
            }),
            Next::End(ReplayState::Completed, _)
        ));
        let nothing = View {
            is_exhausted: true,
            ..rolling(0, of(0, 0), of(0, 0))
        };
        assert!(matches!(
            next(&nothing),
            Next::End(ReplayState::Completed, _)
        ));
    }

    proptest! {
        /// However the steps fall, the rate holds over any time, but for one second's worth.
        #[test]
        fn the_rate_holds(rate in 0.1_f64..500.0, steps in prop::collection::vec(0_i64..3_000, 1..200)) {
            let begin = DateTime::UNIX_EPOCH;
            let (mut now, mut paced_at, mut count) = (begin, begin, 0);
            for millis in steps {
                now += TimeDelta::milliseconds(millis);
                let allowed = allowance(rate, paced_at, now);
                paced_at = paced(rate, paced_at, allowed, now);
                count += allowed;
                let most = rate * (now - begin).as_seconds_f64() + 1.0;
                prop_assert!(f64::from(u32::try_from(count).unwrap()) <= most, "{count} of {most}");
            }
            // With steps that are frequent enough nothing of it is lost.
            let (mut paced_at, mut count) = (now, 0);
            for _ in 0..100 {
                now += TimeDelta::milliseconds(200);
                let allowed = allowance(rate, paced_at, now);
                paced_at = paced(rate, paced_at, allowed, now);
                count += allowed;
            }
            let whole = rate * 20.0;
            prop_assert!((f64::from(u32::try_from(count).unwrap()) - whole).abs() <= 1.1, "{count} of {whole}");
        }
    }
}
