//! Events: what has happened, for whoever binds a queue to the topic exchange `warren.events`. Like every message they
//! say which one, and nothing of it. A row of the outbox is written by the transaction that makes the event true, so none
//! is lost on its way to RabbitMQ; there it goes to the queues that are bound at that moment.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Somebody has signed up.
pub const USER_CREATED: &str = "user.created";
/// The user's address was proven.
pub const USER_VERIFIED: &str = "user.verified";
/// The user is gone, and what is left of them in other places is being removed.
pub const USER_DELETED: &str = "user.deleted";

/// The JSON body of a message in `warren.events`; its name is the routing key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Event {
    /// A repeat has the same.
    pub id: Uuid,
    /// E.g. `user.created`.
    pub event: String,
    /// What it is about: of `user.…` the user.
    pub subject: Uuid,
}
