//! `demo.noop`: does nothing, for benchmarks and tests of the engine itself.

use super::{AcceptDefaults, Kind};
use crate::{
    backoff::Backoff,
    fields::FieldError,
    task::{Limits, Queue},
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DemoNoop {}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DemoNoopDone {}

impl Kind for DemoNoop {
    const NAME: &'static str = "demo.noop";
    const QUEUE: Queue = Queue::Work;
    const LIMITS: Limits = Limits::DEFAULT;
    const BACKOFF: Backoff = Backoff::DEFAULT;
    const DEMO: bool = true;
    type Output = DemoNoopDone;

    fn prepare(&mut self, _defaults: &AcceptDefaults) -> Result<(), Vec<FieldError>> {
        Ok(())
    }
}
