//! Return paths: each mail's envelope has a sender of its own, `bounce+<mark>@bounces.example.com`, so that a bounce tells
//! which mail it is about whatever its sender understood of it (VERP). The mark is the task's id with a MAC, so nobody can
//! make bounces up.

use crate::{address::EmailAddress, pepper::Peppers, task::TaskId};
use uuid::Uuid;

/// What the configured address may have before its @.
pub const LONGEST_LOCAL: usize = 10;
const USE: &str = "return path";
/// Bytes of the MAC that stand in the mark: forging one takes 2^79 tries on average.
const MAC: usize = 10;
/// Crockford's alphabet in lower case; mail servers may change case on the way.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The envelope's sender of that mail; none without a secret.
pub fn address(base: &EmailAddress, task: TaskId, peppers: &Peppers) -> Option<EmailAddress> {
    let id = task.0.as_bytes();
    let mac = peppers.first()?.mac(USE, &[id]);
    let mark = encode(&[id.as_slice(), &mac[..MAC]].concat());
    EmailAddress::parse(&format!("{}+{mark}@{}", base.local(), base.domain())).ok()
}

/// The mail whose envelope had that sender.
pub fn task(address: &str, base: &EmailAddress, peppers: &Peppers) -> Option<TaskId> {
    let (local, domain) = address.trim().rsplit_once('@')?;
    let (name, mark) = local.split_once('+')?;
    if !domain.eq_ignore_ascii_case(base.domain()) || !name.eq_ignore_ascii_case(base.local()) {
        return None;
    }
    let bytes = decode(&mark.to_ascii_lowercase())?;
    let (id, mac) = bytes.split_at_checked(16)?;
    let is_ours = peppers.iter().any(|pepper| {
        mac.len() == MAC && crate::pepper::is_equal(&pepper.mac(USE, &[id])[..MAC], mac)
    });
    let id = Uuid::from_slice(id).ok()?;
    is_ours.then_some(TaskId(id))
}

/// Base 32 without padding.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut held, mut bits) = (0_u32, 0);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(DIGITS[(held >> bits) as usize & 31]));
        }
    }
    if bits > 0 {
        text.push(char::from(DIGITS[(held << (5 - bits)) as usize & 31]));
    }
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut held, mut bits) = (0_u32, 0);
    for sign in text.bytes() {
        let digit = DIGITS.iter().position(|digit| *digit == sign)?;
        held = (held << 5) | u32::try_from(digit).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 255).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn peppers(text: &str) -> Peppers {
        Peppers::parse(&text.into()).unwrap()
    }

    const OLD: &str = "a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const NEW: &str = "b:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    #[test]
    fn a_bounce_tells_its_mail() {
        let base = EmailAddress::parse("bounce@bounces.example.com").unwrap();
        let id = TaskId::now();
        let address = address(&base, id, &peppers(OLD)).unwrap();
        assert!(address.local().len() <= 64 && address.local().starts_with("bounce+"));
        let both = peppers(&format!("{NEW} {OLD}"));
        assert_eq!(task(address.as_str(), &base, &both), Some(id));
        assert_eq!(
            task(&address.as_str().to_uppercase(), &base, &both),
            Some(id)
        );
        assert_eq!(task(address.as_str(), &base, &peppers(NEW)), None);
        let other = EmailAddress::parse("bounce@example.com").unwrap();
        assert_eq!(task(address.as_str(), &other, &both), None);
        for wrong in [
            "",
            "@",
            "bounce@bounces.example.com",
            "bounce+@bounces.example.com",
            "bounce+u@bounces.example.com",
        ] {
            assert_eq!(task(wrong, &base, &both), None, "{wrong}");
        }
        let longest = EmailAddress::parse("bounce1234@b.example").unwrap();
        assert!(super::address(&longest, id, &both).is_some());
    }

    proptest! {
        #[test]
        fn base_32_is_undone(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode(&encode(&bytes)).unwrap(), bytes);
        }
    }
}
