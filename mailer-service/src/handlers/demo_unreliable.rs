//! `demo.unreliable`: draws its lot anew on every attempt.

use super::{Context, Handler, Services};
use crate::task::{Failure, TaskError};
use rand::RngExt;
use shared::kinds::{DemoUnreliable, DemoUnreliableDone, FailureClass};

impl Handler for DemoUnreliable {
    async fn run(
        self,
        context: &Context,
        _services: &Services,
    ) -> Result<DemoUnreliableDone, TaskError> {
        let attempt = context.attempt;
        if !rand::rng().random_bool(self.probability) {
            return Ok(DemoUnreliableDone { attempt });
        }
        let failure = Failure::new("unlucky", format!("attempt {attempt} drew a failure"));
        Err(match self.class {
            FailureClass::Retryable => TaskError::Retry(failure),
            FailureClass::Final => TaskError::Fail(failure),
        })
    }
}
