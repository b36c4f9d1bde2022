//! `demo.calculate`: one sum, to show a task that returns something.

use super::{AcceptDefaults, Kind};
use crate::{
    backoff::Backoff,
    fields::FieldError,
    task::{Limits, Queue},
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DemoCalculate {
    pub operation: Operation,
    pub a: f64,
    pub b: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DemoCalculated {
    pub value: f64,
}

impl DemoCalculate {
    /// None: no number, as when dividing by zero.
    pub fn value(&self) -> Option<f64> {
        let Self { operation, a, b } = *self;
        let value = match operation {
            Operation::Add => a + b,
            Operation::Subtract => a - b,
            Operation::Multiply => a * b,
            Operation::Divide => a / b,
        };
        value.is_finite().then_some(value)
    }
}

impl Kind for DemoCalculate {
    const NAME: &'static str = "demo.calculate";
    const QUEUE: Queue = Queue::Work;
    const LIMITS: Limits = Limits::DEFAULT;
    const BACKOFF: Backoff = Backoff::DEFAULT;
    const DEMO: bool = true;
    type Output = DemoCalculated;

    fn prepare(&mut self, _defaults: &AcceptDefaults) -> Result<(), Vec<FieldError>> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_frozen() {
        let wire = r#"{"operation":"divide","a":1.0,"b":4.0}"#;
        let payload: DemoCalculate = serde_json::from_str(wire).unwrap();
        assert_eq!(payload.value(), Some(0.25));
        assert_eq!(serde_json::to_string(&payload).unwrap(), wire);
        assert_eq!(DemoCalculate { b: 0.0, ..payload }.value(), None);
    }
}
