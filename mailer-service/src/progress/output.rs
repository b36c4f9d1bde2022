//! The output of one attempt, on its way to the disk: a piece that is being written, and what has come since.
//!
//! A piece keeps its number and its text until it is known to be written, so that writing it twice, by the control
//! thread or with the attempt's outcome, writes it once.

use shared::config;
use std::sync::Arc;
use tokio::sync::{Notify, futures::OwnedNotified};

/// Bounds for the output of one attempt, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What may wait to be written.
    pub buffer: usize,
    /// What is kept.
    pub most: usize,
}

impl From<&config::Output> for Limits {
    fn from(config: &config::Output) -> Self {
        Self {
            buffer: config.buffer_bytes,
            most: config.max_bytes,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            buffer: 16_384,
            most: 1 << 20,
        }
    }
}

/// A piece of an attempt's output, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// From 1 in each attempt.
    pub seq: i32,
    pub text: String,
    /// More was emitted, and is not kept.
    pub truncated: bool,
}

impl Chunk {
    /// Counts a piece that is on disk.
    pub fn count(&self) {
        metrics::counter!("warren_output_chunks_total").increment(1);
        metrics::counter!("warren_output_bytes_total").increment(self.text.len() as u64);
        if self.truncated {
            metrics::counter!("warren_output_truncated_total").increment(1);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Output {
    pending: String,
    /// The next piece is the last, and says that there was more.
    is_cut: bool,
    /// Nothing more is kept.
    is_full: bool,
    /// Taken, and not known to be written.
    in_flight: Option<Chunk>,
    /// The number of the latest piece.
    latest: i32,
    /// Of all that was taken in.
    bytes: usize,
    room: Room,
}

/// Tells those who wait for room; also when it is dropped.
#[derive(Debug, Default)]
struct Room(Arc<Notify>);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

impl Output {
    /// What found no room, and the moment when there may be some.
    pub(super) fn push<'a>(
        &mut self,
        text: &'a str,
        limits: Limits,
    ) -> Option<(&'a str, OwnedNotified)> {
        if self.is_full {
            return None;
        }
        let kept = head(text, limits.most.saturating_sub(self.bytes));
        let taken = head(kept, limits.buffer.saturating_sub(self.pending.len()));
        self.pending.push_str(taken);
        self.bytes += taken.len();
        if taken.len() < kept.len() {
            // Made under the board's lock, so that no notice is missed.
            let room = Arc::clone(&self.room.0).notified_owned();
            return Some((&text[taken.len()..], room));
        }
        if kept.len() < text.len() {
            self.is_full = true;
            self.is_cut = true;
        }
        None
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.in_flight.is_some() || !self.pending.is_empty() || self.is_cut
    }

    /// The piece to write: the one that is under way, if any.
    pub(super) fn take(&mut self) -> Option<Chunk> {
        if self.in_flight.is_none() {
            self.in_flight = self.next();
        }
        self.in_flight.clone()
    }

    pub(super) fn written(&mut self, seq: i32) {
        if let Some(chunk) = self.in_flight.take_if(|chunk| chunk.seq == seq) {
            chunk.count();
        }
    }

    /// Drops what there is and takes no more.
    pub(super) fn close(&mut self) {
        *self = Self {
            is_full: true,
            ..Self::default()
        };
    }

    /// What is not known to be written.
    pub(super) fn rest(mut self) -> Vec<Chunk> {
        let in_flight = self.in_flight.take();
        in_flight.into_iter().chain(self.next()).collect()
    }

    fn next(&mut self) -> Option<Chunk> {
        if self.pending.is_empty() && !self.is_cut {
            return None;
        }
        self.latest += 1;
        let chunk = Chunk {
            seq: self.latest,
            text: std::mem::take(&mut self.pending),
            truncated: std::mem::take(&mut self.is_cut),
        };
        self.room.0.notify_waiters();
        Some(chunk)
    }
}

/// As much of a text as has that many bytes.
fn head(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
