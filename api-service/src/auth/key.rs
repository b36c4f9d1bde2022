//! API keys: `wr_` and 43 characters of URL-safe base64, which hold 256 random bits. With that much
//! randomness a plain SHA-256 is what is stored: there is nothing to guess, and finding a key by its hash
//! takes the same time whichever of its characters are right.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::{TryRng, rngs::SysRng};
use sha2::{Digest, Sha256};
use std::fmt;

const PREFIX: &str = "wr_";
const SECRET_LENGTH: usize = 43;
/// Characters of a key that are kept to tell keys apart: the prefix and four more.
const HINT_LENGTH: usize = 7;

/// SHA-256 of a key.
pub type KeyHash = [u8; 32];

/// A text of the form of a key; whether it is valid is for the [`super::KeyRing`] to say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ApiKey<'a>(&'a str);

impl<'a> ApiKey<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
        let secret = text.strip_prefix(PREFIX)?;
        let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (secret.len() == SECRET_LENGTH && secret.bytes().all(is_base64)).then_some(Self(text))
    }

    pub fn hash(self) -> KeyHash {
        Sha256::digest(self.0).into()
    }

    /// The first characters, for people to recognise the key by.
    pub fn hint(self) -> &'a str {
        &self.0[..HINT_LENGTH]
    }
}

impl fmt::Debug for ApiKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.hint())
    }
}

/// A new key, from the operating system's randomness.
pub(crate) fn generate() -> Result<String, rand::rngs::SysError> {
    let mut secret = [0_u8; 32];
    SysRng.try_fill_bytes(&mut secret)?;
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_one() {
        let text = generate().unwrap();
        let key = ApiKey::parse(&text).unwrap();
        assert_eq!(key.hint(), &text[..7]);
        assert_ne!(key.hash(), [0; 32]);
        assert_ne!(text, generate().unwrap());
        assert!(!format!("{key:?}").contains(&text[8..]));
    }

    #[test]
    fn other_texts_are_none() {
        let good = generate().unwrap();
        for bad in [
            "",
            "wr_",
            "wr_short",
            &good[1..],
            &format!("{good}x"),
            &good.replace("wr_", "sk_"),
            &format!("{}é", &good[..44]),
        ] {
            assert!(ApiKey::parse(bad).is_none(), "{bad}");
        }
    }
}
