//! Which relay a mail goes to: by weight among those that let mails in, and to the next one when a relay does not.

use super::{
    error::{Class, SendError, code},
    pool::Pool,
};
use rand::{Rng, RngExt as _};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::{Duration, Instant};

/// Failures in a row after which a relay is only asked when no other one is left.
const FAILURES: u32 = 3;
/// For so long, then it is asked like any other; a further failure puts it aside at once.
const REST: Duration = Duration::from_secs(30);

/// Whether a relay has let mails in of late.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// In a row.
    failures: u32,
    resting_until: Option<Instant>,
}

impl Health {
    pub(super) fn is_resting(&self, now: Instant) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.resting_until.is_some_and(|until| now < until)
    }

    pub(super) fn succeeded(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    /// True: it is put aside by this.
    pub(super) fn failed(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        if state.failures < FAILURES {
            return false;
        }
        let is_new = state.resting_until.is_none_or(|until| until <= now);
        state.resting_until = Some(now + REST);
        is_new
    }
}

/// The relays in the order in which a mail asks them.
pub(super) fn order(relays: &[Arc<Pool>], rng: &mut impl Rng) -> Vec<Arc<Pool>> {
    if let [only] = relays {
        return vec![Arc::clone(only)];
    }
    let now = Instant::now();
    let mut ranked: Vec<_> = relays
        .iter()
        .map(|relay| {
            let rank = rank(relay.settings.weight, rng);
            (relay.health.is_resting(now), rank, Arc::clone(relay))
        })
        .collect();
    ranked.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
    ranked.into_iter().map(|(_, _, relay)| relay).collect()
}

/// The lowest comes first: each with the chance of its weight (Efraimidis and Spirakis), those without any last.
fn rank(weight: u32, rng: &mut impl Rng) -> f64 {
    if weight == 0 {
        return f64::INFINITY;
    }
    let chance: f64 = rng.random_range(f64::MIN_POSITIVE..1.0);
    -chance.ln() / f64::from(weight)
}

/// The relay did not take the mail for reasons of its own, so another one may.
pub(super) fn is_about_the_relay(error: &SendError) -> bool {
    let codes = [
        code::CONNECT_FAILED,
        code::TLS_FAILED,
        code::AUTH_FAILED,
        code::RELAY_REFUSED,
        code::TIMEOUT,
        code::CONNECTION_LOST,
        code::PROTOCOL_ERROR,
        code::SERVICE_CLOSING,
    ];
    // What was said of the recipient may be their domain's word.
    matches!(error.class, Class::Retry | Class::RetryAfter(_))
        && codes.contains(&error.code)
        && !error.asks_for_less()
}

/// Of what several relays said, what lets the mail be tried again first.
pub(super) fn milder(one: SendError, other: SendError) -> SendError {
    match (one.class, other.class) {
        (Class::RetryAfter(wait), Class::RetryAfter(shorter)) if shorter < wait => other,
        // What is put off uses up no attempt.
        (Class::RetryAfter(_), Class::Retry)
        | (Class::Retry | Class::RetryAfter(_), Class::PutOff(_)) => other,
        _ => one,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng as _, rngs::StdRng};

    #[test]
    fn weights_are_chances() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut first = [0_u32; 3];
        for _ in 0..4000 {
            let ranks = [1, 3, 0].map(|weight| rank(weight, &mut rng));
            let least = ranks.iter().copied().fold(f64::INFINITY, f64::min);
            let place = ranks.iter().position(|rank| rank.total_cmp(&least).is_eq());
            first[place.unwrap()] += 1;
        }
        assert_eq!(first[2], 0);
        assert!((2800..3200).contains(&first[1]), "{first:?}");
    }

    #[test]
    fn a_relay_rests_after_failures_in_a_row() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(!health.failed(now) && !health.failed(now));
        health.succeeded();
        assert!(!health.failed(now) && !health.failed(now) && !health.is_resting(now));
        assert!(health.failed(now) && health.is_resting(now));
        assert!(!health.failed(now));
        let later = now + REST;
        assert!(!health.is_resting(later));
        assert!(health.failed(later) && health.is_resting(later));
    }

    #[test]
    fn the_mildest_word_counts() {
        let said = |class| SendError::new(class, code::CONNECT_FAILED, "x");
        let after = |seconds| Class::RetryAfter(Duration::from_secs(seconds));
        assert_eq!(
            milder(said(after(9)), said(Class::Retry)).class,
            Class::Retry
        );
        assert_eq!(
            milder(said(Class::Retry), said(after(9))).class,
            Class::Retry
        );
        assert_eq!(milder(said(after(9)), said(after(5))).class, after(5));
    }
}
