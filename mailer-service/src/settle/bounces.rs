//! Addresses that relays have said do not exist: no more mails go there.

use super::Ended;
use crate::task::{TaskError, Verdict};
use chrono::{Days, Utc};
use shared::suppression::{Reason, rows::New};

/// For so many days; 0: for good.
pub(super) fn of(batch: &[Ended], days: u32) -> Vec<New> {
    let bounce = |ended: &Ended| {
        let Verdict::Failed(TaskError::Fail(failure)) = &ended.verdict else {
            return None;
        };
        Some(New {
            address: failure.hard_bounce.as_ref()?.canonical(),
            category: None,
            purpose: None,
            reason: Reason::HardBounce,
            detail: Some(failure.message.replace('\0', "")),
            task: Some(ended.task.id.0),
            expires_at: (days > 0)
                .then(|| Utc::now().checked_add_days(Days::new(days.into())))
                .flatten(),
            created_by: "warren".into(),
        })
    };
    batch.iter().filter_map(bounce).collect()
}
