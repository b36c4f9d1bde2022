//! The right to begin what can't be taken back.

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

/// The right to begin, which can end while an attempt waits for its turn or its connection: the task may be cancelled, be
/// somebody else's by now, or be of no use any more. What has begun is finished.
pub trait Permit: Send + Sync {
    fn is_held(&self) -> bool;
    /// Fires when the right has ended because the attempt was called off.
    fn withdrawn(&self) -> &CancellationToken;
    /// Awaited before anything that can't be taken back is sent: what must be on record by then. False: it must not be sent.
    fn point_of_no_return(&self) -> Option<BoxFuture<'_, bool>> {
        None
    }
}

/// A right to begin that nobody withdraws.
#[derive(Debug, Default)]
pub struct Always(CancellationToken);

impl Permit for Always {
    fn is_held(&self) -> bool {
        true
    }

    fn withdrawn(&self) -> &CancellationToken {
        &self.0
    }
}
