//! `demo.sleep`

use super::{Context, Handler, Services};
use crate::task::TaskError;
use shared::kinds::{DemoSleep, DemoSlept};
use std::time::Duration;
use tokio::time::Instant;

/// Between two words on how far it is.
const STEP: Duration = Duration::from_millis(100);

impl Handler for DemoSleep {
    async fn run(self, context: &Context, _services: &Services) -> Result<DemoSlept, TaskError> {
        let begin = Instant::now();
        let end = begin + Duration::from_secs_f64(self.seconds);
        while Instant::now() < end {
            let slept = begin.elapsed().as_secs_f64();
            let note = format!("{slept:.1} of {} s", self.seconds);
            context.progress(100.0 * slept / self.seconds, Some(&note));
            let step = tokio::time::sleep_until(end.min(Instant::now() + STEP));
            if self.stubborn {
                step.await;
            } else if context.cancelled.run_until_cancelled(step).await.is_none() {
                return Err(TaskError::Interrupted);
            }
        }
        Ok(DemoSlept {
            seconds: self.seconds,
        })
    }
}
