//! Signing secrets, as Standard Webhooks writes them: `whsec_` and the base64 of 24 to 64 random bytes.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};

/// The name by which a task asks for no signature.
pub const UNSIGNED: &str = "none";
/// The name that is used when a task says nothing.
pub const DEFAULT: &str = "default";

const PREFIX: &str = "whsec_";

/// Why a text is no secret; never says what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be whsec_ followed by the base64 of 24 to 64 random bytes; of several, separated by spaces, each signs"
)]
pub struct NoSecret;

/// The bytes to sign with.
pub fn decode(secret: &SecretString) -> Result<SecretBox<Vec<u8>>, NoSecret> {
    let text = secret
        .expose_secret()
        .strip_prefix(PREFIX)
        .ok_or(NoSecret)?;
    let bytes = BASE64_STANDARD.decode(text).map_err(|_| NoSecret)?;
    if (24..=64).contains(&bytes.len()) {
        Ok(SecretBox::new(Box::new(bytes)))
    } else {
        Err(NoSecret)
    }
}

/// Whether a task can name it: 1 to 64 lower-case letters, digits, `_` and `-`, and not [`UNSIGNED`].
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name != UNSIGNED
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_enough_secrets_are_taken() {
        let secret = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        assert_eq!(decode(&secret).unwrap().expose_secret().len(), 24);
        for text in [
            "",
            "whsec_",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_c2hvcnQ=",
            "whsec_not base64",
        ] {
            let error = decode(&SecretString::from(text)).unwrap_err();
            assert!(
                text.len() < 7 || !error.to_string().contains(&text[6..]),
                "{text}"
            );
        }
    }
}
