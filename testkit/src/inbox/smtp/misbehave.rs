//! Carries out what the fault switches decide.

use std::{io, time::Duration};

use super::{
    Flow,
    session::Session,
    wire::{Stream, Wire},
};
use crate::inbox::faults::{Outcome, Phase, Recipient};

impl Session<'_> {
    /// The fault of this phase: how to go on in place of the normal answer, `None` to give it.
    pub(super) async fn fault<S: Stream>(
        &self,
        wire: &mut Wire<S>,
        phase: Phase,
        recipients: &[Recipient],
    ) -> io::Result<Option<Flow>> {
        let verdict = self.shared.faults.judge(phase, recipients);
        wait(wire, verdict.delay).await?;
        match verdict.outcome {
            None => Ok(None),
            Some(outcome) => misbehave(wire, outcome).await.map(Some),
        }
    }
}

/// Holds back the replies from here on, not the earlier ones.
pub(super) async fn wait<S: Stream>(wire: &mut Wire<S>, delay: Duration) -> io::Result<()> {
    if !delay.is_zero() {
        wire.flush().await?;
        tokio::time::sleep(delay).await;
    }
    Ok(())
}

pub(super) async fn misbehave<S: Stream>(wire: &mut Wire<S>, outcome: Outcome) -> io::Result<Flow> {
    match outcome {
        Outcome::Reply(code, text) => {
            wire.reply(code, &text);
            Ok(if code == 421 {
                Flow::Close
            } else {
                Flow::Continue
            })
        }
        // Replies to earlier commands still go out when the session ends.
        Outcome::Drop | Outcome::StoreThenDrop => Ok(Flow::Close),
        Outcome::Hang => {
            wire.flush().await?;
            std::future::pending().await
        }
    }
}
