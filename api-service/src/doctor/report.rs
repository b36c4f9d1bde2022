//! What the doctor says: one check a line, with its remedy, or all of it as JSON.

use chrono::{DateTime, Utc};
use serde::Serialize;
use std::fmt;

/// Samples that people see; JSON has all.
const SHOWN: usize = 5;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// Worth knowing, and nothing is wrong.
    Note,
    Finding,
    /// Was found, and is repaired.
    Fixed,
    /// Could not be checked, so nothing is known.
    Unchecked,
}

#[derive(Debug, Clone, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub state: State,
    pub says: String,
    /// Of rows, messages or objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
    /// Some ids or names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// `--fix` repairs it.
    pub fixable: bool,
    /// What `--fix` did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed: Option<String>,
}

impl Check {
    pub fn new(name: &'static str, state: State, says: impl Into<String>) -> Self {
        Self {
            name,
            state,
            says: says.into(),
            count: None,
            samples: Vec::new(),
            remedy: None,
            fixable: false,
            fixed: None,
        }
    }

    /// The error with all that caused it.
    pub fn unchecked(name: &'static str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(name, State::Unchecked, chain(error))
    }

    #[must_use]
    pub fn count(mut self, count: i64) -> Self {
        self.count = Some(count);
        self
    }

    #[must_use]
    pub fn samples(mut self, samples: Vec<String>) -> Self {
        self.samples = samples;
        self
    }

    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    #[must_use]
    pub fn fixable(mut self) -> Self {
        self.fixable = true;
        self
    }

    /// Repaired, wholly (`left` is 0) or in part.
    #[must_use]
    pub fn repaired(mut self, did: impl Into<String>, left: i64) -> Self {
        self.fixed = Some(did.into());
        if left == 0 {
            self.state = State::Fixed;
        } else {
            self.count = Some(left);
        }
        self
    }
}

/// Everything that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub checked_at: DateTime<Utc>,
    pub verdict: Verdict,
    pub checks: Vec<Check>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Healthy,
    Findings,
    /// Something could not be checked.
    Incomplete,
}

impl Report {
    pub fn new(checks: Vec<Check>) -> Self {
        let any = |state| checks.iter().any(|check| check.state == state);
        let verdict = if any(State::Unchecked) {
            Verdict::Incomplete
        } else if any(State::Finding) {
            Verdict::Findings
        } else {
            Verdict::Healthy
        };
        Self {
            checked_at: Utc::now(),
            verdict,
            checks,
        }
    }

    /// Of the process: 0 healthy, 1 findings, 2 not everything could be checked.
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Healthy => 0,
            Verdict::Findings => 1,
            Verdict::Incomplete => 2,
        }
    }

    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let state = match check.state {
                State::Ok => "ok",
                State::Note => "note",
                State::Finding => "FINDING",
                State::Fixed => "FIXED",
                State::Unchecked => "UNCHECKED",
            };
            writeln!(f, "{state:<10}{:<24}{}", check.name, check.says)?;
            if !check.samples.is_empty() {
                let shown = &check.samples[..check.samples.len().min(SHOWN)];
                writeln!(f, "{:<34}e.g. {}", "", shown.join(", "))?;
            }
            if let Some(fixed) = &check.fixed {
                writeln!(f, "{:<34}done: {fixed}", "")?;
            }
            if matches!(check.state, State::Finding | State::Unchecked) {
                if let Some(remedy) = &check.remedy {
                    writeln!(f, "{:<34}remedy: {remedy}", "")?;
                }
                if check.fixable && check.fixed.is_none() {
                    writeln!(f, "{:<34}--fix repairs it", "")?;
                }
            }
        }
        let verdict = match self.verdict {
            Verdict::Healthy => "healthy",
            Verdict::Findings => "there are findings",
            Verdict::Incomplete => "not everything could be checked",
        };
        writeln!(f, "{verdict}")
    }
}

pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Some errors repeat what caused them.
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_the_worst_that_was_found() {
        let check = |state| Check::new("x", state, "y");
        let code =
            |states: &[State]| Report::new(states.iter().copied().map(check).collect()).exit_code();
        assert_eq!(code(&[State::Ok, State::Note, State::Fixed]), 0);
        assert_eq!(code(&[State::Ok, State::Finding]), 1);
        assert_eq!(code(&[State::Unchecked, State::Finding]), 2);
    }

    #[test]
    fn a_report_for_people() {
        let found = Check::new("rows", State::Finding, "2 rows are wrong")
            .count(2)
            .samples(vec!["a".into(), "b".into()])
            .remedy("write them anew")
            .fixable();
        let fixed = found.clone().repaired("2 rows written anew", 0);
        let part = found.clone().repaired("1 row written anew", 1);
        let report = Report::new(vec![
            Check::new("database", State::Ok, "answers"),
            found,
            fixed,
            part,
        ]);
        insta::assert_snapshot!(report, @r"
        ok        database                answers
        FINDING   rows                    2 rows are wrong
                                          e.g. a, b
                                          remedy: write them anew
                                          --fix repairs it
        FIXED     rows                    2 rows are wrong
                                          e.g. a, b
                                          done: 2 rows written anew
        FINDING   rows                    2 rows are wrong
                                          e.g. a, b
                                          done: 1 row written anew
                                          remedy: write them anew
        there are findings
        ");
    }
}
