//! The words of a task's life: id, state, queue, lane, priority, limits. Upper-case texts are wire and
//! database forms and never change.

use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};
use uuid::Uuid;

/// A task's id: a UUIDv7, so ids sort by time of acceptance.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub Uuid);

impl TaskId {
    /// A new id, stamped with the present time.
    pub fn now() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The error of a task that was put aside, since the worker that got it does not know its kind.
pub const UNKNOWN_KIND: &str = "unknown_kind";

/// Makes an enum whose variants have one fixed text each, on the wire and in the database. The texts are
/// token trees, not literals: utoipa's derive does not see into a captured literal.
macro_rules! texts {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:tt),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $text)] $variant),* }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

texts! {
    /// Where a task stands.
    Status {
        /// Accepted, to run at a later time.
        Scheduled = "SCHEDULED",
        /// Accepted, waiting for a worker.
        Pending = "PENDING",
        /// A worker has it.
        Processing = "PROCESSING",
        /// An attempt failed; another will be made.
        Retrying = "RETRYING",
        Completed = "COMPLETED",
        Failed = "FAILED",
        Cancelled = "CANCELLED",
        /// Its `useful_until` passed before a worker could start it.
        Expired = "EXPIRED",
        /// Nobody can tell whether its work was done, and the task asked to be held: a person must decide.
        Unknown = "UNKNOWN",
    }
}

impl Status {
    /// No further attempt will be made by itself.
    pub const fn is_final(self) -> bool {
        !matches!(
            self,
            Self::Scheduled | Self::Pending | Self::Processing | Self::Retrying
        )
    }
}

texts! {
    /// Which pool of worker slots a task waits for.
    Queue { Mail = "mail", Ai = "ai", Work = "work" }
}

texts! {
    /// The part of a queue that a priority maps to; each is a RabbitMQ queue of its own.
    Lane { High = "high", Normal = "normal", Low = "low" }
}

texts! {
    /// What happens to a task whose worker died while running it.
    OnWorkerLost {
        /// Another attempt, while any are left.
        Retry = "retry",
        Fail = "fail",
        /// If its work may have been done, the task becomes UNKNOWN and waits for a person; else like `retry`.
        Hold = "hold",
    }
}

/// 0 (lowest) to 9 (highest).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(u8);

impl Priority {
    pub const DEFAULT: Self = Self(5);

    pub fn new(value: u8) -> Option<Self> {
        (value <= 9).then_some(Self(value))
    }

    pub const fn get(self) -> u8 {
        self.0
    }

    /// 7–9 high, 3–6 normal, 0–2 low.
    pub const fn lane(self) -> Lane {
        match self.0 {
            7.. => Lane::High,
            3..=6 => Lane::Normal,
            _ => Lane::Low,
        }
    }
}

/// How long one attempt may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// After this the handler's cancellation signal fires.
    pub soft: Duration,
    /// After this the handler is dropped and the attempt has failed.
    pub hard: Duration,
}

impl Limits {
    pub const DEFAULT: Self = Self {
        soft: Duration::from_secs(240),
        hard: Duration::from_secs(300),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_map_to_lanes() {
        let lanes: Vec<_> = (0..=9)
            .map(|p| Priority::new(p).unwrap().lane().as_str())
            .collect();
        assert_eq!(
            lanes.join(" "),
            "low low low normal normal normal normal high high high"
        );
        assert!(Priority::new(10).is_none());
    }

    #[test]
    fn texts_parse_back() {
        for status in Status::ALL {
            assert_eq!(Status::parse(status.as_str()), Some(*status));
        }
        assert_eq!(Queue::parse("nope"), None);
    }
}
