//! `demo.noop`

use super::{Context, Handler, Services};
use crate::task::TaskError;
use shared::kinds::{DemoNoop, DemoNoopDone};

impl Handler for DemoNoop {
    async fn run(
        self,
        _context: &Context,
        _services: &Services,
    ) -> Result<DemoNoopDone, TaskError> {
        Ok(DemoNoopDone {})
    }
}
