//! Signatures by Standard Webhooks: HMAC-SHA-256 over `id.timestamp.body`, in headers that every receiver's library
//! knows (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::hmac;
use secrecy::ExposeSecret as _;
use shared::{config::Secrets, outbound::secret};
use std::fmt;

/// The keys of one name. During a rotation there are several, and a receiver that knows any of them is satisfied.
pub(super) struct Signer(Vec<hmac::Key>);

impl Signer {
    pub(super) fn new(secrets: &Secrets) -> Result<Self, secret::NoSecret> {
        let key = |text| {
            let bytes = secret::decode(text)?;
            Ok(hmac::Key::new(hmac::HMAC_SHA256, bytes.expose_secret()))
        };
        secrets
            .0
            .iter()
            .map(key)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The value of `webhook-signature`; the timestamp is in seconds of the Unix epoch.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let one = |key: &hmac::Key| {
            let mut context = hmac::Context::with_key(key);
            context.update(format!("{id}.{timestamp}.").as_bytes());
            context.update(body);
            format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
        };
        self.0.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} keys)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::SecretString;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn sign(secrets: &[&str]) -> String {
        let secrets = Secrets(
            secrets
                .iter()
                .map(|text| SecretString::from(*text))
                .collect(),
        );
        let signer = Signer::new(&secrets).unwrap();
        signer.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        )
    }

    #[test]
    fn the_specifications_example() {
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(&[SECRET]), expected);
        let both = sign(&[OTHER, SECRET]);
        let (first, second) = both.split_once(' ').unwrap();
        assert_eq!((first == expected, second), (false, expected));
    }
}
