//! Rules as the API takes them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Outcome, Verdict};

/// The longest delay in milliseconds: ten minutes.
pub(super) const MAX_DELAY_MS: u64 = 600_000;

/// What goes wrong, where and for whom. As JSON:
/// `{"match": "*@slow.test", "phase": "rcpt", "action": {"reply": {"code": 450, "text": "4.2.1 Busy"}}, "times": 2}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// A glob over recipients (`*`, `?`); from `data` on it is enough that one recipient matches.
    /// The phases before `rcpt` know no recipient and take `*` only.
    #[serde(rename = "match")]
    pub recipient: String,
    pub phase: Phase,
    pub action: Action,
    /// How often the rule still acts; absent is always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// The moment just before the server's normal answer to this step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The greeting.
    Connect,
    /// EHLO or HELO.
    Ehlo,
    Auth,
    Mail,
    Rcpt,
    /// The 354 to DATA.
    Data,
    /// The reply to the final dot; the whole mail has been read.
    Dot,
}

/// What happens instead of the normal answer, or before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// This reply, and nothing is done; 421 also closes the connection.
    Reply {
        /// 400 to 599.
        code: u16,
        /// With its enhanced code, e.g. `4.2.1 Mailbox busy`.
        #[serde(default)]
        text: String,
    },
    /// The normal answer comes late. At `dot` the mail is stored before the wait.
    Delay {
        /// At most 600,000.
        ms: u64,
    },
    /// The connection ends, and nothing is done.
    Drop,
    /// Only at `dot`: the mail is stored, the connection ends without a reply, as in a crash.
    StoreThenDrop,
    /// No reply ever, and nothing is done; the connection stays open.
    Hang,
}

impl FaultRule {
    /// A rule that always acts.
    pub fn new(recipient: impl Into<String>, phase: Phase, action: Action) -> Self {
        Self {
            recipient: recipient.into(),
            phase,
            action,
            times: None,
        }
    }

    /// The same rule for the first `times` matches only.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self {
            times: Some(times),
            ..self
        }
    }

    /// What is wrong with the rule, in words for its author.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.recipient.is_empty() {
            return Err("match is empty; use \"*\" for every recipient".to_owned());
        }
        let before_rcpt = matches!(
            self.phase,
            Phase::Connect | Phase::Ehlo | Phase::Auth | Phase::Mail
        );
        if before_rcpt && self.recipient != "*" {
            return Err(
                "match must be \"*\" before phase rcpt, where no recipient is known".to_owned(),
            );
        }
        match &self.action {
            Action::Reply { code, .. } if !(400..=599).contains(code) => {
                Err(format!("code {code} is not within 400 to 599"))
            }
            Action::Reply { text, .. }
                if text.len() > 400 || text.chars().any(char::is_control) =>
            {
                Err("text is longer than 400 bytes or has control characters".to_owned())
            }
            Action::Delay { ms } if *ms > MAX_DELAY_MS => {
                Err(format!("a delay of {ms} ms is above {MAX_DELAY_MS}"))
            }
            Action::StoreThenDrop if self.phase != Phase::Dot => {
                Err("store_then_drop needs phase dot, where there is a mail to store".to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl Action {
    /// A reply with this code and text.
    pub fn reply(code: u16, text: impl Into<String>) -> Self {
        Self::Reply {
            code,
            text: text.into(),
        }
    }

    /// The normal answer, so much later.
    pub fn delay(delay: Duration) -> Self {
        Self::Delay {
            ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn apply(&self, verdict: &mut Verdict) {
        match self {
            Self::Reply { code, text } => {
                let text = if text.is_empty() {
                    format!("{}.0.0 Injected fault", code / 100)
                } else {
                    text.clone()
                };
                verdict.outcome = Some(Outcome::Reply(*code, text));
            }
            Self::Delay { ms } => verdict.delay += Duration::from_millis(*ms),
            Self::Drop => verdict.outcome = Some(Outcome::Drop),
            Self::StoreThenDrop => verdict.outcome = Some(Outcome::StoreThenDrop),
            Self::Hang => verdict.outcome = Some(Outcome::Hang),
        }
    }
}
