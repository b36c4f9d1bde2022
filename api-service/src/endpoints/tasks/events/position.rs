//! Where in a task's events a client stands: the `id` of each event, and what it comes back with as `Last-Event-ID`.
//!
//! It says which output the client has and which state and progress it was told last, so any replica can go on from
//! there without knowing anything of the stream before.

use crate::queries::watch::Place;
use std::{fmt, str::FromStr};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The output it has.
    pub(super) place: Place,
    /// [`print()`] of the state that it was told last; 0: of none.
    pub(super) state: u64,
    pub(super) progress: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { attempt, seq } = self.place;
        write!(f, "{attempt}.{seq}.{:x}.{:x}", self.state, self.progress)
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let parts: Vec<_> = text.split('.').collect();
        let [attempt, seq, state, progress] = parts[..] else {
            return Err(());
        };
        let number = |text: &str| text.parse::<u32>().ok().and_then(|n| i32::try_from(n).ok());
        let print = |text| u64::from_str_radix(text, 16).map_err(|_| ());
        Ok(Self {
            place: Place {
                attempt: number(attempt).ok_or(())?,
                seq: number(seq).ok_or(())?,
            },
            state: print(state)?,
            progress: print(progress)?,
        })
    }
}

/// A fingerprint of what an event says (FNV-1a), the same in every replica and version; never 0.
pub(super) fn print(data: &str) -> u64 {
    let hash = data.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_parse_back() {
        let position = Position {
            place: Place {
                attempt: 3,
                seq: 17,
            },
            state: print("a"),
            progress: 0,
        };
        let text = position.to_string();
        assert_eq!(text, "3.17.af63dc4c8601ec8c.0");
        assert_eq!(text.parse(), Ok(position));
        for text in [
            "",
            "1.2.3",
            "1.2.3.4.5",
            "-1.2.3.4",
            "1.x.3.4",
            "1.2.3.g",
            "3000000000.1.0.0",
        ] {
            assert_eq!(text.parse::<Position>(), Err(()), "{text}");
        }
    }
}
