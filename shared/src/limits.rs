//! Limits that all workers share, and pauses: which of them a task falls under, and how much is left of each. Pure; the
//! workers keep the state in PostgreSQL.
//!
//! A rate is a token bucket: it fills by `rate` tokens a second up to `burst`, and each attempt takes one.

use crate::task::Queue;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What a limit is about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    Queue,
    Kind,
    /// The `limit_key` of a task.
    Key,
}

impl Scope {
    pub const ALL: [Self; 3] = [Self::Queue, Self::Kind, Self::Key];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Kind => "kind",
            Self::Key => "key",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// What one limit permits; nothing set: everything.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Allowance {
    /// Attempts started per second.
    pub rate: Option<f64>,
    /// Attempts at once after a quiet time; a second's worth when not set.
    pub burst: Option<i32>,
    /// Attempts running at a time.
    pub concurrency: Option<i32>,
    pub paused: bool,
}

impl Allowance {
    pub fn burst(&self) -> f64 {
        let second = self.rate.unwrap_or(1.0).ceil().max(1.0);
        self.burst.map_or(second, f64::from)
    }
}

/// One limit's state for one name. The order is the one in which they are locked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketName {
    pub scope: Scope,
    pub name: String,
}

/// How much is left of a limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    pub allowance: Allowance,
    pub tokens: f64,
    /// Attempts that run under it.
    pub running: i64,
    /// Tasks that were called up and have not been claimed.
    pub woken: i64,
}

impl Bucket {
    /// `tokens` as they were `age_s` seconds ago; none: full.
    pub fn filled(allowance: Allowance, tokens: Option<f64>, age_s: f64) -> Self {
        let burst = allowance.burst();
        let grown = tokens.map(|left| left + allowance.rate.unwrap_or(0.0) * age_s.max(0.0));
        Self {
            allowance,
            tokens: grown.map_or(burst, |tokens| tokens.min(burst)),
            running: 0,
            woken: 0,
        }
    }

    /// Attempts that may start now.
    pub fn room(&self) -> i64 {
        if self.allowance.paused {
            return 0;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most a burst, an i32")]
        let tokens = self.allowance.rate.map(|_| self.tokens.floor() as i64);
        let slots = self
            .allowance
            .concurrency
            .map(|most| i64::from(most) - self.running);
        tokens
            .into_iter()
            .chain(slots)
            .min()
            .unwrap_or(i64::MAX)
            .max(0)
    }

    /// Tasks that may be called up now, beyond those that were.
    pub fn unclaimed_room(&self) -> i64 {
        self.room().saturating_sub(self.woken)
    }

    /// Seconds until the rate alone would let one more be called up; none: something else is in the way, or nothing is.
    pub fn seconds_to_token(&self) -> Option<f64> {
        let rate = self.allowance.rate?;
        #[expect(clippy::cast_precision_loss, reason = "some thousands at most")]
        let lacking = self.woken as f64 + 1.0 - self.tokens;
        let slots = self.allowance.concurrency;
        let has_slot = slots.is_none_or(|most| i64::from(most) > self.running + self.woken);
        (lacking > 0.0 && has_slot && !self.allowance.paused).then(|| lacking / rate)
    }

    /// Whether one more may start. Who was called up has been counted; others must not overtake those in line.
    pub fn admits(&self, was_woken: bool, has_line: bool) -> bool {
        if was_woken {
            self.room() > 0
        } else {
            !has_line && self.unclaimed_room() > 0
        }
    }

    pub fn take(&mut self, was_woken: bool) {
        self.tokens -= 1.0;
        self.running += 1;
        self.woken -= i64::from(was_woken);
    }

    /// Undoes [`Bucket::take`] for an attempt that was not claimed after all.
    pub fn give_back(&mut self) {
        self.tokens += 1.0;
        self.running -= 1;
    }
}

/// One row of the table `limits`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub scope: Scope,
    /// A key may end in `*`.
    pub name: String,
    pub allowance: Allowance,
}

/// Everything that may keep a task from starting.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    exact: HashMap<BucketName, Allowance>,
    /// Beginnings of keys; each key that they cover has a bucket of its own.
    prefixes: BTreeMap<String, Allowance>,
    pub paused_queues: HashSet<Queue>,
}

impl Policy {
    pub fn new(
        rules: impl IntoIterator<Item = Rule>,
        paused_kinds: impl IntoIterator<Item = String>,
        paused_queues: impl IntoIterator<Item = Queue>,
    ) -> Self {
        let mut policy = Self {
            paused_queues: paused_queues.into_iter().collect(),
            ..Self::default()
        };
        for Rule {
            scope,
            name,
            allowance,
        } in rules
        {
            match name.strip_suffix('*') {
                Some(beginning) if scope == Scope::Key => {
                    policy.prefixes.insert(beginning.to_owned(), allowance);
                }
                _ => {
                    policy.exact.insert(BucketName { scope, name }, allowance);
                }
            }
        }
        for name in paused_kinds {
            let kind = BucketName {
                scope: Scope::Kind,
                name,
            };
            policy.exact.entry(kind).or_default().paused = true;
        }
        policy
    }

    /// No task of any kind can be held up here.
    pub fn is_open(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }

    /// What this bucket permits; none: there is no such limit (any more).
    pub fn allowance(&self, bucket: &BucketName) -> Option<Allowance> {
        self.rule(bucket).map(|(_, allowance)| allowance)
    }

    /// The limit that a bucket falls under: its name, and what it permits.
    pub fn rule(&self, bucket: &BucketName) -> Option<(String, Allowance)> {
        if let Some(allowance) = self.exact.get(bucket) {
            return Some((bucket.name.clone(), *allowance));
        }
        match bucket.scope {
            Scope::Key => self.by_prefix(&bucket.name),
            Scope::Queue | Scope::Kind => None,
        }
    }

    /// The longest beginning counts.
    fn by_prefix(&self, key: &str) -> Option<(String, Allowance)> {
        let covering = self
            .prefixes
            .iter()
            .filter(|(beginning, _)| key.starts_with(beginning.as_str()));
        let (beginning, allowance) = covering.max_by_key(|(beginning, _)| beginning.len())?;
        Some((format!("{beginning}*"), *allowance))
    }

    /// The limits that a task falls under.
    pub fn of(
        &self,
        queue: &str,
        kind: &str,
        limit_key: Option<&str>,
    ) -> Vec<(BucketName, Allowance)> {
        let names = [
            (Scope::Queue, Some(queue)),
            (Scope::Kind, Some(kind)),
            (Scope::Key, limit_key),
        ];
        names
            .into_iter()
            .filter_map(|(scope, name)| {
                let bucket = BucketName {
                    scope,
                    name: name?.to_owned(),
                };
                let allowance = self.allowance(&bucket)?;
                Some((bucket, allowance))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(scope: Scope, name: &str, concurrency: i32) -> Rule {
        Rule {
            scope,
            name: name.into(),
            allowance: Allowance {
                concurrency: Some(concurrency),
                ..Allowance::default()
            },
        }
    }

    fn found(policy: &Policy, key: Option<&str>) -> Vec<(String, Option<i32>)> {
        policy
            .of("work", "demo.noop", key)
            .into_iter()
            .map(|(bucket, allowance)| (bucket.name, allowance.concurrency))
            .collect()
    }

    #[test]
    fn a_task_falls_under_its_queue_its_kind_and_its_key() {
        let policy = Policy::new(
            [
                rule(Scope::Queue, "work", 1),
                rule(Scope::Kind, "demo.noop", 2),
                rule(Scope::Kind, "email.send", 3),
                rule(Scope::Key, "tenant:*", 4),
                rule(Scope::Key, "tenant:big:*", 5),
                rule(Scope::Key, "tenant:acme", 6),
            ],
            [],
            [],
        );
        assert_eq!(found(&policy, None).len(), 2);
        let last = |key| found(&policy, Some(key)).pop().unwrap();
        assert_eq!(last("tenant:acme"), ("tenant:acme".into(), Some(6)));
        assert_eq!(last("tenant:other"), ("tenant:other".into(), Some(4)));
        assert_eq!(last("tenant:big:one"), ("tenant:big:one".into(), Some(5)));
        assert_eq!(found(&policy, Some("user:1")).len(), 2);
    }

    #[test]
    fn a_paused_kind_has_no_room_whatever_its_limit() {
        let policy = Policy::new(
            [rule(Scope::Kind, "demo.noop", 9)],
            ["demo.noop".into(), "demo.sleep".into()],
            [],
        );
        for kind in ["demo.noop", "demo.sleep"] {
            let (_, allowance) = policy.of("work", kind, None).pop().unwrap();
            assert_eq!(Bucket::filled(allowance, None, 0.0).room(), 0);
        }
        assert!(!policy.is_open());
        assert!(Policy::new([], [], [Queue::Mail]).is_open());
    }

    #[test]
    fn tokens_grow_up_to_the_burst() {
        let allowance = Allowance {
            rate: Some(0.5),
            burst: Some(3),
            ..Allowance::default()
        };
        let room = |tokens, age| Bucket::filled(allowance, tokens, age).room();
        assert_eq!(room(None, 0.0), 3);
        assert_eq!(room(Some(0.0), 1.9), 0);
        assert_eq!(room(Some(0.0), 2.0), 1);
        assert_eq!(room(Some(0.0), 1e9), 3);
        assert_eq!(room(Some(-5.0), 2.0), 0);
        // A clock that went back fills nothing.
        assert_eq!(room(Some(1.0), -10.0), 1);
        let second = Allowance {
            rate: Some(2.5),
            ..Allowance::default()
        };
        assert_eq!(Bucket::filled(second, None, 0.0).room(), 3);
    }

    #[test]
    fn newcomers_wait_behind_those_who_wait() {
        let allowance = Allowance {
            concurrency: Some(2),
            ..Allowance::default()
        };
        let mut bucket = Bucket::filled(allowance, None, 0.0);
        bucket.running = 1;
        assert!(bucket.admits(false, false) && bucket.admits(true, true));
        bucket.woken = 1;
        assert!(!bucket.admits(false, false) && bucket.admits(true, false));
        bucket.take(true);
        assert!(!bucket.admits(true, false));
        bucket.give_back();
        assert!(bucket.admits(false, false));
        assert!(!bucket.admits(false, true));
    }

    #[test]
    fn the_next_token_is_foreseen() {
        let allowance = Allowance {
            rate: Some(4.0),
            burst: Some(2),
            concurrency: Some(3),
            paused: false,
        };
        let mut bucket = Bucket::filled(allowance, Some(0.5), 0.0);
        assert_eq!(bucket.seconds_to_token(), Some(0.125));
        bucket.woken = 1;
        assert_eq!(bucket.seconds_to_token(), Some(0.375));
        bucket.running = 2;
        assert_eq!(bucket.seconds_to_token(), None);
        bucket = Bucket::filled(allowance, None, 0.0);
        assert_eq!(bucket.seconds_to_token(), None);
        bucket.allowance.rate = None;
        bucket.tokens = 0.0;
        assert_eq!(bucket.seconds_to_token(), None);
    }
}
