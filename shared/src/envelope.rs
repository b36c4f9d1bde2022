//! What a message in RabbitMQ says: which task, which attempt. No payload and no personal data: a worker
//! reads those from PostgreSQL when it claims the task, and only if the attempt is still to be made.

use crate::task::{Lane, TaskId};
use serde::{Deserialize, Serialize};

/// The JSON body of every message in a task queue, a delay tier or the dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Envelope {
    /// The task.
    #[schema(value_type = uuid::Uuid)]
    pub id: TaskId,
    pub kind: String,
    /// The attempt to be made, from 1. A worker claims it only while the row stands at the attempt before.
    pub attempt: i32,
    pub lane: Lane,
}

/// A body that is no envelope: parked in the dead-letter queue, never panicked on.
#[derive(Debug, thiserror::Error)]
#[error("the message is no task envelope")]
pub struct NotAnEnvelope(#[source] serde_json::Error);

impl Envelope {
    pub fn from_json(body: &[u8]) -> Result<Self, NotAnEnvelope> {
        serde_json::from_slice(body).map_err(NotAnEnvelope)
    }

    pub fn to_json(&self) -> Vec<u8> {
        // Kinds are dotted lower-case names and the rest are fixed texts: nothing needs escaping.
        format!(
            r#"{{"id":"{}","kind":"{}","attempt":{},"lane":"{}"}}"#,
            self.id, self.kind, self.attempt, self.lane
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_frozen() {
        let wire = r#"{"id":"01890000-0000-7000-8000-000000000001","kind":"email.send","attempt":3,"lane":"high"}"#;
        let envelope = Envelope::from_json(wire.as_bytes()).unwrap();
        assert_eq!(envelope.attempt, 3);
        assert_eq!(envelope.to_json(), wire.as_bytes());
        assert_eq!(serde_json::to_string(&envelope).unwrap(), wire);
    }

    #[test]
    fn later_versions_may_add_fields() {
        let wire = br#"{"id":"01890000-0000-7000-8000-000000000001","kind":"x","attempt":1,"lane":"low","new":1}"#;
        assert!(Envelope::from_json(wire).is_ok());
        assert!(Envelope::from_json(b"{}").is_err());
    }
}
