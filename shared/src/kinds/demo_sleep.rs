//! `demo.sleep`: takes so long, saying how far it is, to show progress, cancelling and time limits.

use super::{AcceptDefaults, Kind};
use crate::{
    backoff::Backoff,
    fields::FieldError,
    task::{Limits, Queue},
};
use serde::{Deserialize, Serialize};

/// A day: longer than any message may stay unacknowledged.
const LONGEST: f64 = 86_400.0;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DemoSleep {
    /// 0 to 86,400. Above 240 the task needs a `soft_time_limit_s` and a `hard_time_limit_s` of its own.
    #[schema(minimum = 0, maximum = 86400)]
    pub seconds: f64,
    /// Sleep on when asked to stop; only the hard limit ends it then. `false` when left out.
    #[serde(default)]
    pub stubborn: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DemoSlept {
    pub seconds: f64,
}

impl Kind for DemoSleep {
    const NAME: &'static str = "demo.sleep";
    const QUEUE: Queue = Queue::Work;
    const LIMITS: Limits = Limits::DEFAULT;
    const BACKOFF: Backoff = Backoff::DEFAULT;
    const DEMO: bool = true;
    type Output = DemoSlept;

    fn prepare(&mut self, _defaults: &AcceptDefaults) -> Result<(), Vec<FieldError>> {
        if (0.0..=LONGEST).contains(&self.seconds) {
            Ok(())
        } else {
            let detail = format!("must be 0 to {LONGEST}");
            Err(vec![FieldError::new("/seconds", detail)])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_frozen() {
        let wire = r#"{"seconds":1.5,"stubborn":false}"#;
        let mut payload: DemoSleep = serde_json::from_str(wire).unwrap();
        assert_eq!(serde_json::to_string(&payload).unwrap(), wire);
        payload.seconds = 86_401.0;
        let errors = payload.prepare(&AcceptDefaults::for_tests()).unwrap_err();
        assert_eq!(errors[0].pointer, "/seconds");
    }
}
