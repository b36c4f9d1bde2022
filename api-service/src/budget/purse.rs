//! What a process holds of one limit of one key: leased from the record, and not used yet. Pure: the time comes in, and
//! the leasing thread carries what it asks for.

use chrono::NaiveDate;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use uuid::Uuid;

/// How old the knowledge of the record may become while the key is in use.
const FRESH: Duration = Duration::from_secs(1);
/// How long requests pass after the record could not be asked.
const PASS: Duration = Duration::from_secs(1);

/// How the record is filled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// When it is full.
    pub(super) most: f64,
    /// What it gains in a second.
    pub(super) per_s: f64,
    /// The part of what it has left that may be leased before anybody needs it.
    pub(super) ahead: f64,
    /// How long it is not asked after it had too little.
    pub(super) pause: Duration,
}

/// The record has too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Short {
    /// Until it may have enough.
    pub(super) wait: Duration,
    pub(super) left: u64,
}

#[derive(Debug)]
pub(super) enum Taken {
    Yes,
    No(Short),
    /// The record is asked.
    Wait(oneshot::Receiver<Result<(), Short>>),
}

/// What is wanted from the record, or given back.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ask {
    pub key: Uuid,
    /// The limit.
    pub most: f64,
    pub per_s: f64,
    pub want: u64,
    /// Less is no use.
    pub least: u64,
    pub back: u64,
    /// That what is given back was leased for.
    pub day: Option<NaiveDate>,
}

/// What the record gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lease {
    pub granted: u64,
    /// What is left there.
    pub left: f64,
    /// The day it is for, and how long that lasts.
    pub day: Option<(NaiveDate, Duration)>,
}

#[derive(Debug)]
struct Waiter {
    n: u64,
    reply: oneshot::Sender<Result<(), Short>>,
}

/// The record as it was last seen.
#[derive(Debug, Clone, Copy)]
struct Known {
    left: f64,
    at: Instant,
    day: Option<(NaiveDate, Instant)>,
}

#[derive(Debug, Default)]
pub(super) struct Purse {
    balance: u64,
    known: Option<Known>,
    waiting: VecDeque<Waiter>,
    /// Taken since the last tick, and about how much in one tick before.
    used: u64,
    pace: u64,
    /// The record had too little; until then it is not asked.
    dry_until: Option<Instant>,
    /// The record could not be asked; until then nothing is counted.
    pass_until: Option<Instant>,
    /// What is known is about another limit.
    is_stale: bool,
}

impl Purse {
    /// Takes `n`. With 0 it only waits until the record is known.
    pub(super) fn take(&mut self, n: u64, terms: &Terms, now: Instant) -> Taken {
        self.lapse(now);
        if self.waiting.is_empty() && n <= self.balance && (n > 0 || self.known.is_some()) {
            self.spend(n);
            return Taken::Yes;
        }
        if self.pass_until.is_some_and(|until| now < until) {
            return Taken::Yes;
        }
        let is_dry = self.dry_until.is_some_and(|until| now < until);
        if n > 0 && is_dry && n > self.left(terms, now) {
            return Taken::No(self.short(n, terms, now));
        }
        let (reply, answer) = oneshot::channel();
        self.waiting.push_back(Waiter { n, reply });
        Taken::Wait(answer)
    }

    /// Puts back what was taken and not used.
    pub(super) fn put_back(&mut self, n: u64, day: Option<NaiveDate>, now: Instant) {
        self.lapse(now);
        if self.day() == day {
            self.balance += n;
        }
    }

    /// Nothing is counted for a while.
    pub(super) fn pass(&mut self, now: Instant) {
        self.pass_until = Some(now + PASS);
    }

    /// The limit has changed: the record is to be looked at again.
    pub(super) fn change(&mut self) {
        if let Some(known) = &mut self.known {
            known.left = 0.0;
        }
        self.dry_until = None;
        self.is_stale = true;
    }

    /// There is no limit any more.
    pub(super) fn open(&mut self) {
        for waiter in std::mem::take(self).waiting {
            let _gone = waiter.reply.send(Ok(()));
        }
    }

    /// The day that the balance is for.
    pub(super) fn day(&self) -> Option<NaiveDate> {
        self.known?.day.map(|(day, _)| day)
    }

    /// About what the key has left, here and at the record; none: not known.
    pub(super) fn standing(&self, terms: &Terms, now: Instant) -> Option<(u64, Duration)> {
        let known = self.known?;
        let left = self.left(terms, now);
        let more_in = match known.day {
            Some((_, ends)) => ends.saturating_duration_since(now),
            None => seconds((1.0 - self.at_record(terms, now).fract()) / terms.per_s),
        };
        Some((left, more_in))
    }

    /// Nobody has used it for a while, and nothing is held.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.balance == 0 && self.used == 0 && self.pace == 0
    }

    /// What to ask the record for, if anything. `ticks`: the time between two ticks has passed.
    pub(super) fn begin(&mut self, terms: &Terms, ticks: bool, now: Instant) -> Option<Ask> {
        self.lapse(now);
        self.waiting.retain(|waiter| !waiter.reply.is_closed());
        if ticks {
            self.pace = self.used.max(self.pace / 2);
            self.used = 0;
        }
        let mut ask = Ask {
            most: terms.most,
            per_s: terms.per_s,
            day: self.day(),
            ..Ask::default()
        };
        let ahead = whole(self.at_record(terms, now) * terms.ahead).min(self.pace);
        if !self.waiting.is_empty() {
            let needs = |waiter: &Waiter| waiter.n.saturating_sub(self.balance);
            let all: u64 = self.waiting.iter().map(|waiter| waiter.n).sum();
            ask.least = self.waiting.iter().map(needs).min().unwrap_or(0);
            ask.want = all.saturating_sub(self.balance) + ahead;
            return Some(ask);
        }
        if !ticks {
            return None;
        }
        if self.balance > 2 * self.pace {
            ask.back = self.balance - self.pace;
            self.balance = self.pace;
            return Some(ask);
        }
        ask.want = ahead.saturating_sub(self.balance);
        let is_old = self
            .known
            .is_none_or(|known| now.saturating_duration_since(known.at) >= FRESH);
        let looks = self.is_stale || (self.pace > 0 && is_old);
        (ask.want > 0 || looks).then_some(ask)
    }

    /// Takes in what the record said, and serves those who wait.
    pub(super) fn finish(&mut self, ask: &Ask, lease: &Lease, terms: &Terms, asked_at: Instant) {
        let now = asked_at;
        if self.day() != lease.day.map(|(day, _)| day) {
            self.balance = 0;
        }
        self.balance += lease.granted;
        self.known = Some(Known {
            left: lease.left,
            at: now,
            day: lease.day.map(|(day, lasts)| (day, now + lasts)),
        });
        self.pass_until = None;
        self.is_stale = false;
        let has_no_more = lease.granted < ask.want;
        self.dry_until = has_no_more.then(|| {
            let next = match terms.per_s {
                0.0 => Duration::ZERO,
                per_s => seconds((1.0 - lease.left) / per_s),
            };
            now + terms.pause.max(next)
        });
        for waiter in std::mem::take(&mut self.waiting) {
            if waiter.n <= self.balance {
                if waiter.reply.send(Ok(())).is_ok() {
                    self.spend(waiter.n);
                }
            } else if has_no_more && waiter.n > self.left(terms, now) {
                let short = self.short(waiter.n, terms, now);
                let _gone = waiter.reply.send(Err(short));
            } else {
                self.waiting.push_back(waiter);
            }
        }
    }

    /// The record could not be asked. Who waits for the rate passes, as does who only looks; a quota is waited for.
    pub(super) fn fail(&mut self, ask: &Ask, terms: &Terms, now: Instant) {
        self.put_back(ask.back, ask.day, now);
        self.pass_until = (terms.per_s > 0.0).then_some(now + PASS);
        for waiter in std::mem::take(&mut self.waiting) {
            if waiter.n == 0 || terms.per_s > 0.0 {
                let _gone = waiter.reply.send(Ok(()));
            } else {
                self.waiting.push_back(waiter);
            }
        }
    }

    /// Everything that is held goes back.
    pub(super) fn empty(&mut self, terms: &Terms, now: Instant) -> Option<Ask> {
        self.lapse(now);
        let back = std::mem::take(&mut self.balance);
        (back > 0).then(|| Ask {
            most: terms.most,
            per_s: terms.per_s,
            back,
            day: self.day(),
            ..Ask::default()
        })
    }

    fn spend(&mut self, n: u64) {
        self.balance -= n;
        self.used += n;
    }

    /// What was leased for a day that is over is worth nothing.
    fn lapse(&mut self, now: Instant) {
        let ends = self.known.and_then(|known| known.day);
        if ends.is_some_and(|(_, ends)| now >= ends) {
            self.balance = 0;
            self.known = None;
            self.dry_until = None;
        }
    }

    /// About what the record has now.
    fn at_record(&self, terms: &Terms, now: Instant) -> f64 {
        self.known.map_or(0.0, |known| {
            let gained = terms.per_s * now.saturating_duration_since(known.at).as_secs_f64();
            (known.left + gained).min(terms.most)
        })
    }

    fn left(&self, terms: &Terms, now: Instant) -> u64 {
        (self.balance + whole(self.at_record(terms, now))).min(whole(terms.most))
    }

    fn short(&self, n: u64, terms: &Terms, now: Instant) -> Short {
        let day_ends = self.known.and_then(|known| known.day).map(|(_, ends)| ends);
        #[expect(clippy::cast_precision_loss, reason = "a request takes one")]
        let missing = n as f64 - self.at_record(terms, now);
        let wait = day_ends.map_or_else(
            || seconds(missing / terms.per_s),
            |ends| ends.saturating_duration_since(now),
        );
        let left = self.left(terms, now);
        Short { wait, left }
    }
}

/// However odd the number is.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::from_secs(86_400))
}

/// What can be taken of it. The little that is added makes up for the rounding of sums.
fn whole(amount: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not below 0, and a cast saturates"
    )]
    let whole = (amount + 1e-6).max(0.0) as u64;
    whole
}

#[cfg(test)]
mod tests;
