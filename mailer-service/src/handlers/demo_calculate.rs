//! `demo.calculate`

use super::{Context, Handler, Services};
use crate::task::{Failure, TaskError};
use shared::kinds::{DemoCalculate, DemoCalculated};

impl Handler for DemoCalculate {
    async fn run(
        self,
        _context: &Context,
        _services: &Services,
    ) -> Result<DemoCalculated, TaskError> {
        match self.value() {
            Some(value) => Ok(DemoCalculated { value }),
            None => Err(TaskError::Fail(Failure::new(
                "no_number",
                "the result is not a finite number",
            ))),
        }
    }
}
