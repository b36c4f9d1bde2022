//! `demo.stream`: emits its output in pieces, to show event streams.

use super::{AcceptDefaults, Kind};
use crate::{
    backoff::Backoff,
    fields::FieldError,
    task::{Limits, Queue},
};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

const CHUNKS: RangeInclusive<u32> = 1..=100_000;
const INTERVAL_MS: RangeInclusive<u32> = 0..=60_000;
const SIZE: RangeInclusive<u32> = 0..=65_536;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DemoStream {
    /// How many pieces, 1 to 100,000: each a line with its number and the time when it was emitted.
    #[schema(minimum = 1, maximum = 100_000)]
    pub chunks: u32,
    /// Milliseconds between two of them, up to 60,000. 100 when left out.
    #[serde(default = "default_interval")]
    #[schema(minimum = 0, maximum = 60_000)]
    pub interval_ms: u32,
    /// Bytes that each is filled up to, at most 65,536. 0 when left out: as long as it is.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 65_536)]
    pub size: u32,
    /// So many attempts fail, each after its last piece. 0 when left out.
    #[serde(default)]
    pub failures: u32,
}

const fn default_interval() -> u32 {
    100
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DemoStreamed {
    pub chunks: u32,
    pub bytes: u64,
}

impl Kind for DemoStream {
    const NAME: &'static str = "demo.stream";
    const QUEUE: Queue = Queue::Work;
    const LIMITS: Limits = Limits::DEFAULT;
    const BACKOFF: Backoff = Backoff::DEFAULT;
    const DEMO: bool = true;
    type Output = DemoStreamed;

    fn prepare(&mut self, _defaults: &AcceptDefaults) -> Result<(), Vec<FieldError>> {
        let errors: Vec<_> = [
            ("/chunks", self.chunks, CHUNKS),
            ("/interval_ms", self.interval_ms, INTERVAL_MS),
            ("/size", self.size, SIZE),
        ]
        .into_iter()
        .filter(|(_, value, range)| !range.contains(value))
        .map(|(pointer, _, range)| {
            let detail = format!("must be {} to {}", range.start(), range.end());
            FieldError::new(pointer, detail)
        })
        .collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_frozen() {
        let mut payload: DemoStream = serde_json::from_str(r#"{"chunks":3}"#).unwrap();
        assert_eq!(
            serde_json::to_string(&payload).unwrap(),
            r#"{"chunks":3,"interval_ms":100,"size":0,"failures":0}"#
        );
        let defaults = AcceptDefaults::for_tests();
        assert_eq!(payload.prepare(&defaults), Ok(()));
        payload.chunks = 0;
        payload.size = 65_537;
        let errors = payload.prepare(&defaults).unwrap_err();
        let pointers: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/chunks", "/size"]);
    }
}
