//! When a task's messages were published. That is not on record, since it would cost every task a write; but a message can't
//! have been published before what made it true, nor after the claim that it led to, and while it is not confirmed it
//! stands in the outbox.

use super::{Happening, TimelineEvent, event};
use crate::{endpoints::tasks::resource::Timestamp, queries::timeline::Message};
use chrono::DateTime;
use serde::Serialize;

/// What is known of a message.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub struct Published {
    /// Null where there are too many messages under way to find out.
    confirmed: Option<bool>,
    /// Not before then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    after: Option<Timestamp>,
    /// And not after then, since the task was claimed with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    before: Option<Timestamp>,
    /// While it is not confirmed: how often it was published again.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeats: Option<i32>,
}

/// Adds when the message of each attempt was published, as far as that can be told from what happened before and after;
/// and of the one that is to come.
pub(super) fn with_messages(
    events: Vec<TimelineEvent>,
    awaited: Option<(i32, Message)>,
) -> Vec<TimelineEvent> {
    let mut all = Vec::with_capacity(events.len() + 1);
    let mut after = None;
    for event in events {
        match event.event {
            Happening::Started => {
                let published = Published {
                    confirmed: Some(true),
                    after: after.take(),
                    before: event.at,
                    repeats: None,
                };
                all.push(message(event.attempt, published));
            }
            // Nobody is to come for it.
            Happening::Finished | Happening::Progress | Happening::Output => {}
            _ => after = event.at,
        }
        all.push(event);
    }
    if let Some((attempt, awaited)) = awaited {
        let (confirmed, repeats) = match awaited {
            Message::Confirmed => (Some(true), None),
            Message::Unconfirmed(repeats) => (Some(false), Some(repeats)),
            Message::Unknown => (None, None),
        };
        let published = Published {
            confirmed,
            after,
            before: None,
            repeats,
        };
        all.push(message(Some(attempt), published));
    }
    all
}

fn message(attempt: Option<i32>, published: Published) -> TimelineEvent {
    TimelineEvent {
        at: None,
        attempt,
        published: Some(published),
        ..event(DateTime::UNIX_EPOCH, Happening::Published)
    }
}
