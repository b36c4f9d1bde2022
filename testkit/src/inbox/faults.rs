//! Fault switches: what a relay can do wrong, at the moment that a test chooses.
//!
//! Two sources, asked in this order: rules set by the API, and words in the recipient's local part
//! (`user+450x2@…`), which need no set-up and so keep parallel tests apart.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

mod address;
mod glob;
mod rule;

pub(super) use self::address::Switch;
pub use self::rule::{Action, FaultRule, Phase};

/// Recipients whose tries are remembered. Beyond it memory starts anew: such a greylist asks once more.
const REMEMBERED: usize = 100_000;

/// A recipient of the mail at hand with the switches in its address.
#[derive(Debug)]
pub(super) struct Recipient {
    pub(super) address: String,
    pub(super) switches: Vec<Switch>,
}

/// What is to happen instead of, or before, the normal answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) delay: Duration,
    pub(super) outcome: Option<Outcome>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Reply(u16, String),
    Drop,
    StoreThenDrop,
    Hang,
}

#[derive(Default)]
pub(super) struct Faults {
    rules: Mutex<Vec<ActiveRule>>,
    /// Spares the usual mail the lock.
    any_rules: AtomicBool,
    /// How often a counted switch of an address was used.
    tries: Mutex<HashMap<(String, Switch), u32>>,
}

struct ActiveRule {
    rule: FaultRule,
    glob: glob::Glob,
}

impl Recipient {
    pub(super) fn new(address: String) -> Self {
        let switches = address::switches(&address);
        Self { address, switches }
    }
}

impl Faults {
    /// Replaces all rules; none is taken if one of them is wrong.
    pub(super) fn set(&self, rules: Vec<FaultRule>) -> anyhow::Result<()> {
        for (index, rule) in rules.iter().enumerate() {
            rule.check()
                .map_err(|problem| anyhow::anyhow!("rule {index}: {problem}"))?;
        }
        self.any_rules.store(!rules.is_empty(), Ordering::Release);
        *lock(&self.rules) = rules
            .into_iter()
            .map(|rule| ActiveRule {
                glob: glob::Glob::new(&rule.recipient),
                rule,
            })
            .collect();
        Ok(())
    }

    /// The rules, `times` counted down to what is left.
    pub(super) fn rules(&self) -> Vec<FaultRule> {
        lock(&self.rules)
            .iter()
            .map(|active| active.rule.clone())
            .collect()
    }

    /// Forgets which recipients have tried before.
    pub(super) fn forget_tries(&self) {
        lock(&self.tries).clear();
    }

    /// Decides for a phase; `recipients` is empty before RCPT, then that one, then all.
    pub(super) fn judge(&self, phase: Phase, recipients: &[Recipient]) -> Verdict {
        let mut verdict = Verdict::default();
        if self.any_rules.load(Ordering::Acquire) {
            self.judge_by_rules(phase, recipients, &mut verdict);
        }
        for recipient in recipients {
            for switch in &recipient.switches {
                if verdict.outcome.is_none()
                    && switch.concerns(phase)
                    && self.is_due(recipient, switch)
                {
                    switch.apply(&mut verdict);
                }
            }
        }
        verdict
    }

    fn judge_by_rules(&self, phase: Phase, recipients: &[Recipient], verdict: &mut Verdict) {
        for active in lock(&self.rules).iter_mut() {
            let matches = active.glob.is_any()
                || recipients
                    .iter()
                    .any(|recipient| active.glob.matches(&recipient.address));
            if active.rule.phase != phase || !matches || verdict.outcome.is_some() {
                continue;
            }
            match &mut active.rule.times {
                Some(0) => continue,
                Some(left) => *left -= 1,
                None => {}
            }
            active.rule.action.apply(verdict);
        }
    }

    /// Counts a use of a counted switch; false when it is used up.
    fn is_due(&self, recipient: &Recipient, switch: &Switch) -> bool {
        let Some(times) = switch.times else {
            return true;
        };
        let mut tries = lock(&self.tries);
        if tries.len() >= REMEMBERED {
            tries.clear();
        }
        let used = tries
            .entry((recipient.address.to_lowercase(), *switch))
            .or_default();
        let due = *used < times;
        *used = used.saturating_add(1);
        due
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
