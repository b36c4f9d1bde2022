//! Secrets by which codes, links and addresses are made and told: what a caller hands back is either ours or not, and
//! nothing of it need be stored. Each has a name, which stands in what was made with it, so that they can be changed: the
//! first makes, and all others are still understood.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use secrecy::{ExposeSecret as _, SecretString};
use std::{fmt, sync::Arc};

/// Bytes that a secret must have at least.
const SHORTEST: usize = 32;
/// Of its name.
const LONGEST_NAME: usize = 16;

/// The 32 bytes of an HMAC-SHA-256.
pub type Mac = [u8; 32];

/// All secrets, of which there may be none. Clones share them.
#[derive(Clone, Default)]
pub struct Peppers(Arc<[Pepper]>);

/// One secret.
pub struct Pepper {
    name: String,
    key: hmac::Key,
}

/// The text is no list of secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPepper {
    #[error(
        "each must be name:secret, the name 1 to 16 lower-case letters and digits, the secret 32 bytes or more in base64"
    )]
    Form,
    #[error("two secrets have the same name")]
    Twice,
}

impl Peppers {
    /// Of `name:base64`, separated by spaces.
    pub fn parse(text: &SecretString) -> Result<Self, NoPepper> {
        let peppers = text.expose_secret().split_whitespace().map(Pepper::parse);
        let peppers = peppers.collect::<Result<Vec<_>, _>>()?;
        let is_twice =
            |(at, one): (usize, &Pepper)| peppers[..at].iter().any(|other| other.name == one.name);
        if peppers.iter().enumerate().any(is_twice) {
            return Err(NoPepper::Twice);
        }
        Ok(Self(peppers.into()))
    }

    /// The one that makes.
    pub fn first(&self) -> Option<&Pepper> {
        self.0.first()
    }

    pub fn find(&self, name: &str) -> Option<&Pepper> {
        self.0.iter().find(|pepper| pepper.name == name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Pepper> {
        self.0.iter()
    }
}

impl fmt::Debug for Peppers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter()).finish()
    }
}

impl Pepper {
    fn parse(text: &str) -> Result<Self, NoPepper> {
        let (name, secret) = text.split_once(':').ok_or(NoPepper::Form)?;
        let is_name = (1..=LONGEST_NAME).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let secret = BASE64_STANDARD.decode(secret).map_err(|_| NoPepper::Form)?;
        if !is_name || secret.len() < SHORTEST {
            return Err(NoPepper::Form);
        }
        Ok(Self {
            name: name.to_owned(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Of a use, e.g. `verification code`, and the parts that it is about. Each part has its length before it, so that
    /// no two lists of parts are alike.
    pub fn mac(&self, use_: &str, parts: &[&[u8]]) -> Mac {
        let mut mac = [0; 32];
        mac.copy_from_slice(self.sign(use_, parts).as_ref());
        mac
    }

    /// Whether `mac` is what [`Pepper::mac`] makes, or its beginning of 16 bytes or more; in constant time.
    pub fn tells(&self, use_: &str, parts: &[&[u8]], mac: &[u8]) -> bool {
        const LEAST: usize = 16;
        let whole = self.mac(use_, parts);
        (LEAST..=whole.len()).contains(&mac.len()) && is_equal(&whole[..mac.len()], mac)
    }

    fn sign(&self, use_: &str, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in std::iter::once(&use_.as_bytes()).chain(parts) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign()
    }

    /// Hides `text` so that only who has the secret reads it, and nobody else can make another one. The same text is
    /// always hidden alike: the nonce is a MAC of it (as in RFC 8452), so repeats tell that they are repeats and no more.
    pub fn seal(&self, use_: &str, text: &[u8]) -> Option<Vec<u8>> {
        let mac = self.mac("nonce", &[use_.as_bytes(), text]);
        let nonce: [u8; NONCE_LEN] = mac[..NONCE_LEN].try_into().ok()?;
        let mut sealed = text.to_vec();
        let key = self.sealing_key(use_)?;
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::empty(),
                &mut sealed,
            )
            .ok()?;
        let mut out = nonce.to_vec();
        out.extend_from_slice(&sealed);
        out.extend_from_slice(tag.as_ref());
        Some(out)
    }

    /// What [`Pepper::seal`] has hidden for that use.
    pub fn open(&self, use_: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut rest = rest.to_vec();
        let key = self.sealing_key(use_)?;
        let text = key.open_in_place(nonce, Aad::empty(), &mut rest).ok()?;
        Some(text.to_vec())
    }

    fn sealing_key(&self, use_: &str) -> Option<LessSafeKey> {
        let key = self.mac("sealing key", &[use_.as_bytes()]);
        UnboundKey::new(&CHACHA20_POLY1305, &key)
            .ok()
            .map(LessSafeKey::new)
    }
}

/// In a time that tells nothing but the lengths.
pub fn is_equal(one: &[u8], other: &[u8]) -> bool {
    let difference = one.iter().zip(other).fold(0, |seen, (a, b)| seen | (a ^ b));
    one.len() == other.len() && std::hint::black_box(difference) == 0
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pepper({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const B: &str = "b:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    fn peppers(text: &str) -> Result<Peppers, NoPepper> {
        Peppers::parse(&text.into())
    }

    #[test]
    fn the_first_makes_and_all_are_found() {
        let both = peppers(&format!("{A} {B}")).unwrap();
        assert_eq!(both.first().unwrap().name(), "a");
        assert!(both.find("b").is_some() && both.find("c").is_none());
        assert!(peppers("").unwrap().first().is_none());
        assert!(!format!("{both:?}").contains("AA"));
        for wrong in ["a", "a:AAAA", "A:AAAA", "a:%", ":AAAA"] {
            assert_eq!(peppers(wrong).unwrap_err(), NoPepper::Form, "{wrong}");
        }
        assert_eq!(peppers(&format!("{A} {A}")).unwrap_err(), NoPepper::Twice);
    }

    #[test]
    fn a_mac_is_of_its_use_and_of_each_part() {
        let both = peppers(&format!("{A} {B}")).unwrap();
        let (a, b) = (both.find("a").unwrap(), both.find("b").unwrap());
        let mac = a.mac("use", &[b"ab", b"c"]);
        assert!(a.tells("use", &[b"ab", b"c"], &mac));
        assert!(a.tells("use", &[b"ab", b"c"], &mac[..16]));
        assert!(!a.tells("use", &[b"ab", b"c"], &mac[..15]));
        assert!(!a.tells("use", &[b"a", b"bc"], &mac));
        assert!(!a.tells("other", &[b"ab", b"c"], &mac));
        assert!(!b.tells("use", &[b"ab", b"c"], &mac));
    }

    #[test]
    fn what_is_sealed_is_read_by_its_secret_and_use_alone() {
        let both = peppers(&format!("{A} {B}")).unwrap();
        let (a, b) = (both.find("a").unwrap(), both.find("b").unwrap());
        let sealed = a.seal("link", b"ada@example.com").unwrap();
        assert_eq!(a.seal("link", b"ada@example.com").unwrap(), sealed);
        assert_ne!(
            a.seal("link", b"bob@example.com").unwrap()[..12],
            sealed[..12]
        );
        assert_eq!(a.open("link", &sealed).unwrap(), b"ada@example.com");
        assert!(a.open("other", &sealed).is_none() && b.open("link", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert!(a.open("link", &forged).is_none());
            assert!(a.open("link", &sealed[..at]).is_none());
        }
    }
}
