//! Switches in a recipient's local part: words between plus signs, e.g. `ann+slow200+450x2@warren.test`.
//!
//! | word | what happens |
//! |---|---|
//! | `421` `450` `550` `552` | RCPT is answered so (421 also closes) |
//! | `451` | greylisted: the first RCPT of this address is answered 451, later ones are accepted |
//! | `slow`, `slow2000` | each reply from RCPT on is delayed, by 1,000 ms or the number given |
//! | `dropdata` | the connection ends instead of DATA's 354 |
//! | `dropdot` | the whole mail is read, nothing is stored, the connection ends without a reply |
//! | `crash` | the whole mail is read and stored, the connection ends without a reply |
//!
//! `x` and a number after a word (`450x2`, `crashx1`) limit it to the first uses of this address.

use std::time::Duration;

use super::{Outcome, Phase, Verdict, rule::MAX_DELAY_MS};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::inbox) struct Switch {
    kind: Kind,
    /// How often it acts; `None` is always.
    pub(super) times: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Refuse(u16, &'static str),
    Slow(u64),
    DropData,
    DropDot,
    Crash,
}

const REFUSALS: [(u16, &str); 5] = [
    (421, "4.3.2 Service shutting down"),
    (450, "4.2.1 Mailbox busy, try again later"),
    (451, "4.7.1 Greylisted, try again later"),
    (550, "5.1.1 No such user here"),
    (552, "5.2.2 Mailbox full"),
];

/// The code that means greylisting and so acts once unless counted otherwise.
const GREYLIST: u16 = 451;

/// The switches of an address, most often none.
pub(super) fn switches(address: &str) -> Vec<Switch> {
    let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
    local.split('+').skip(1).filter_map(parse).collect()
}

fn parse(word: &str) -> Option<Switch> {
    let word = word.to_ascii_lowercase();
    if let Some(kind) = kind(&word) {
        let greylist = matches!(kind, Kind::Refuse(GREYLIST, _));
        return Some(Switch {
            kind,
            times: greylist.then_some(1),
        });
    }
    let (word, times) = word.rsplit_once('x')?;
    Some(Switch {
        kind: kind(word)?,
        times: Some(number(times)?),
    })
}

fn kind(word: &str) -> Option<Kind> {
    match word {
        "dropdata" => Some(Kind::DropData),
        "dropdot" => Some(Kind::DropDot),
        "crash" => Some(Kind::Crash),
        "slow" => Some(Kind::Slow(1000)),
        _ => {
            if let Some(ms) = word.strip_prefix("slow") {
                return Some(Kind::Slow(u64::from(number(ms)?).min(MAX_DELAY_MS)));
            }
            let code = number(word)?;
            let (code, text) = REFUSALS
                .iter()
                .find(|(refusal, _)| u32::from(*refusal) == code)?;
            Some(Kind::Refuse(*code, text))
        }
    }
}

/// Digits only, unlike `parse`, which takes a sign too.
fn number(digits: &str) -> Option<u32> {
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())
        .flatten()
}

impl Switch {
    pub(super) fn concerns(&self, phase: Phase) -> bool {
        match self.kind {
            Kind::Refuse(..) => phase == Phase::Rcpt,
            Kind::Slow(_) => matches!(phase, Phase::Rcpt | Phase::Data | Phase::Dot),
            Kind::DropData => phase == Phase::Data,
            Kind::DropDot | Kind::Crash => phase == Phase::Dot,
        }
    }

    pub(super) fn apply(&self, verdict: &mut Verdict) {
        match self.kind {
            Kind::Refuse(code, text) => {
                verdict.outcome = Some(Outcome::Reply(code, text.to_owned()));
            }
            Kind::Slow(ms) => verdict.delay = verdict.delay.max(Duration::from_millis(ms)),
            Kind::DropData | Kind::DropDot => verdict.outcome = Some(Outcome::Drop),
            Kind::Crash => verdict.outcome = Some(Outcome::StoreThenDrop),
        }
    }
}
