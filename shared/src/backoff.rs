//! When to try again: policy as data, decided by a pure function.
//!
//! Waits up to ten minutes are delay tiers in RabbitMQ (see [`crate::topology`]); longer ones are a due
//! time in PostgreSQL. Jitter picks among neighbouring tiers, so that a relay that refused a thousand
//! mails at once does not meet them all again at once.

use rand::{Rng, RngExt};
use std::time::Duration;

/// The delay tiers, in seconds.
pub const TIERS: [u16; 6] = [1, 5, 15, 60, 300, 600];

/// Exponential backoff: `first`, `first * factor`, … up to `longest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// How often a task is tried in all, the first attempt included.
    pub max_attempts: u16,
    pub first: Duration,
    pub factor: u32,
    pub longest: Duration,
}

impl Backoff {
    /// 8 attempts over about 40 minutes.
    pub const DEFAULT: Self = Self {
        max_attempts: 8,
        first: Duration::from_secs(1),
        factor: 4,
        longest: Duration::from_secs(1800),
    };

    /// How long to wait after that many failed attempts (1 or more).
    pub fn wait_after(&self, failures: u32, rng: &mut impl Rng) -> Delay {
        let growth = self.factor.saturating_pow(failures.saturating_sub(1));
        let exact = self.first.saturating_mul(growth).min(self.longest);
        if exact > Duration::from_secs(TIERS[TIERS.len() - 1].into()) {
            return Delay::Until(exact.mul_f64(rng.random_range(0.8..1.2)));
        }
        let nearest = nearest_tier(exact);
        let index = match rng.random_range(0..4) {
            0 => nearest.saturating_sub(1),
            1 => (nearest + 1).min(TIERS.len() - 1),
            _ => nearest,
        };
        Delay::Tier(TIERS[index])
    }
}

/// How a wait is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delay {
    /// Seconds in a delay tier of RabbitMQ.
    Tier(u16),
    /// A due time in PostgreSQL, this far from now.
    Until(Duration),
}

impl Delay {
    /// At least `wait`, and not much longer: a tier that is at most a quarter longer, else a due time.
    pub fn at_least(wait: Duration) -> Self {
        let longest = wait.mul_f64(1.25).max(Duration::from_secs(TIERS[0].into()));
        TIERS
            .into_iter()
            .map(|tier| (tier, Duration::from_secs(tier.into())))
            .find(|(_, long)| (wait..=longest).contains(long))
            .map_or(Self::Until(wait), |(tier, _)| Self::Tier(tier))
    }

    pub fn duration(self) -> Duration {
        match self {
            Self::Tier(seconds) => Duration::from_secs(seconds.into()),
            Self::Until(wait) => wait,
        }
    }
}

fn nearest_tier(wait: Duration) -> usize {
    let distance = |tier: u16| Duration::from_secs(tier.into()).abs_diff(wait);
    (0..TIERS.len())
        .min_by_key(|i| distance(TIERS[*i]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    proptest! {
        #[test]
        fn waits_grow_and_stay_bounded(seed: u64, failures in 1_u32..100, factor in 1_u32..10, longest in 1_u64..100_000) {
            let backoff = Backoff { max_attempts: 9, first: Duration::from_secs(1), factor, longest: Duration::from_secs(longest) };
            let wait = backoff.wait_after(failures, &mut StdRng::seed_from_u64(seed)).duration();
            prop_assert!(wait >= Duration::from_secs(1));
            // Half of the exact wait, or the tier below it, is the least; jitter may go one tier up.
            prop_assert!(wait <= Duration::from_secs(600).max(Duration::from_secs(longest).mul_f64(1.2)));
        }

        #[test]
        fn retry_after_is_never_shortened(seconds in 0_u64..1_000_000) {
            let wait = Duration::from_secs(seconds);
            let kept = Delay::at_least(wait).duration();
            prop_assert!(kept >= wait && kept <= wait.mul_f64(1.25).max(Duration::from_secs(1)));
        }
    }

    #[test]
    fn the_middle_of_the_default_curve() {
        let mut rng = StdRng::seed_from_u64(1);
        let median = |failures: u32, rng: &mut StdRng| {
            let mut waits: Vec<_> = (0..401)
                .map(|_| Backoff::DEFAULT.wait_after(failures, rng).duration())
                .collect();
            waits.sort();
            waits[200].as_secs()
        };
        let curve: Vec<_> = (1..=5).map(|failures| median(failures, &mut rng)).collect();
        assert_eq!(curve, [1, 5, 15, 60, 300]);
    }
}
