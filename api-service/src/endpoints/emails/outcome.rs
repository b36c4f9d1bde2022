//! What became of a copy, in the words of mail.

use crate::queries::emails::{Copy, Event};
use serde::Serialize;
use shared::{suppression::SUPPRESSED, task::Status};

/// What became of a mail to one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = EmailOutcome)]
pub enum Outcome {
    /// It waits for its time, or its turn.
    Queued,
    /// The relay has taken it (250).
    Sent,
    /// The relay did not take it yet; it is tried again.
    Deferred,
    /// The relay has refused it for good, or a bounce has come.
    Bounced,
    /// It could not be handed to a relay, for reasons that are not the recipient's.
    Failed,
    /// The recipient gets no such mails; nothing was sent.
    Suppressed,
    /// Its `useful_until` has passed.
    Expired,
    Cancelled,
    /// Nobody can tell whether the relay has taken it.
    Unknown,
}

/// What says that the mail itself, or its address, was refused.
const BOUNCES: [&str; 3] = [
    "smtp_permanent",
    "smtp_message_too_large",
    "smtp_smtputf8_unsupported",
];

impl Outcome {
    pub(super) fn of(copy: &Copy, events: &[&Event]) -> Self {
        let code = copy.error_code.as_deref();
        let Some(status) = Status::parse(&copy.status) else {
            return Self::Unknown;
        };
        match status {
            Status::Completed if events.iter().any(|event| event.event == "bounced") => {
                Self::Bounced
            }
            Status::Completed => Self::Sent,
            Status::Failed if code.is_some_and(|code| BOUNCES.contains(&code)) => Self::Bounced,
            Status::Failed => Self::Failed,
            Status::Cancelled if code == Some(SUPPRESSED) => Self::Suppressed,
            Status::Cancelled => Self::Cancelled,
            Status::Expired => Self::Expired,
            Status::Unknown => Self::Unknown,
            Status::Retrying => Self::Deferred,
            _ if copy.attempt > 1 => Self::Deferred,
            _ => Self::Queued,
        }
    }
}
