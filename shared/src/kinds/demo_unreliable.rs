//! `demo.unreliable`: fails so often, to show retries, dead letters and replays.

use super::{AcceptDefaults, Kind};
use crate::{
    backoff::Backoff,
    fields::FieldError,
    task::{Limits, Queue},
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DemoUnreliable {
    /// How likely an attempt fails, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub probability: f64,
    /// What a failure is; `retryable` when left out.
    #[serde(default)]
    pub class: FailureClass,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FailureClass {
    /// Another attempt is made.
    #[default]
    Retryable,
    /// The task fails for good.
    Final,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DemoUnreliableDone {
    /// The attempt that succeeded.
    pub attempt: i32,
}

impl Kind for DemoUnreliable {
    const NAME: &'static str = "demo.unreliable";
    const QUEUE: Queue = Queue::Work;
    const LIMITS: Limits = Limits::DEFAULT;
    const BACKOFF: Backoff = Backoff::DEFAULT;
    const DEMO: bool = true;
    type Output = DemoUnreliableDone;

    fn prepare(&mut self, _defaults: &AcceptDefaults) -> Result<(), Vec<FieldError>> {
        if (0.0..=1.0).contains(&self.probability) {
            Ok(())
        } else {
            Err(vec![FieldError::new("/probability", "must be 0 to 1")])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_frozen() {
        let wire = r#"{"probability":0.5,"class":"final"}"#;
        let payload: DemoUnreliable = serde_json::from_str(wire).unwrap();
        assert_eq!(serde_json::to_string(&payload).unwrap(), wire);
        let payload: DemoUnreliable = serde_json::from_str(r#"{"probability":2}"#).unwrap();
        assert_eq!(payload.class, FailureClass::Retryable);
        let errors = payload.clone().prepare(&AcceptDefaults::for_tests());
        assert_eq!(errors.unwrap_err()[0].pointer, "/probability");
    }
}
