//! Private keys, and the DNS records of their public halves.

use crate::setup::{SetupError, wrong};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::{
    digest::{SHA256, digest},
    error::Unspecified,
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256},
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretString};
use shared::config;
use std::fmt;

pub(super) enum SigningKey {
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm())
    }
}

impl SigningKey {
    /// From `key`, or from the file `key_file`: PEM, as openssl writes it.
    pub(super) fn load(
        dkim: &config::Dkim,
        at: impl Fn(&str) -> String,
    ) -> Result<Self, SetupError> {
        let (field, pem) = match (dkim.key.expose_secret(), dkim.key_file.as_str()) {
            ("", "") => return Err(wrong(at("key_file"), "must be set, or key")),
            ("", file) => {
                let read = std::fs::read_to_string(file);
                let text =
                    read.map_err(|error| wrong(at("key_file"), "can't be read").caused_by(error))?;
                (at("key_file"), SecretString::from(text))
            }
            (key, "") => (at("key"), SecretString::from(key)),
            _ => return Err(wrong(at("key"), "must not be set together with key_file")),
        };
        Self::parse(pem.expose_secret()).map_err(|text| wrong(field, text))
    }

    pub(super) fn parse(pem: &str) -> Result<Self, &'static str> {
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| "must be a private key in PEM")?;
        match key {
            PrivateKeyDer::Pkcs8(key) => {
                let der = key.secret_pkcs8_der();
                // openssl leaves the public half out.
                if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
                    return Ok(Self::Ed25519(key));
                }
                RsaKeyPair::from_pkcs8(der).map(Self::Rsa)
            }
            PrivateKeyDer::Pkcs1(key) => {
                RsaKeyPair::from_der(key.secret_pkcs1_der()).map(Self::Rsa)
            }
            _ => return Err("must be an Ed25519 or an RSA key"),
        }
        .map_err(|_| "must be an Ed25519 key, or an RSA key of 2048 bits or more")
    }

    /// The tag `a=`.
    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "ed25519-sha256",
            Self::Rsa(_) => "rsa-sha256",
        }
    }

    /// It is the same each time: an RSA signature needs randomness only to hide the key from the machine's other users.
    pub(super) fn sign(&self, text: &[u8]) -> Result<Vec<u8>, Unspecified> {
        match self {
            // RFC 8463, 3: the hash is what is signed.
            Self::Ed25519(key) => Ok(key.sign(digest(&SHA256, text).as_ref()).as_ref().to_vec()),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let random = SystemRandom::new();
                key.sign(&RSA_PKCS1_SHA256, &random, text, &mut signature)?;
                Ok(signature)
            }
        }
    }

    /// The text of the DNS record.
    pub(super) fn record(&self) -> String {
        match self {
            Self::Ed25519(key) => {
                let public = BASE64_STANDARD.encode(key.public_key().as_ref());
                format!("v=DKIM1; k=ed25519; p={public}")
            }
            Self::Rsa(key) => {
                let public = BASE64_STANDARD.encode(subject_public_key(key.public().as_ref()));
                format!("v=DKIM1; k=rsa; p={public}")
            }
        }
    }
}

/// An RSA key of PKCS #1 as a `SubjectPublicKeyInfo` (RFC 5280, 4.1.2.7), which the record holds.
fn subject_public_key(key: &[u8]) -> Vec<u8> {
    // rsaEncryption, without parameters.
    const ALGORITHM: [u8; 15] = [
        0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    ];
    let mut bits = vec![0];
    bits.extend_from_slice(key);
    let mut inside = ALGORITHM.to_vec();
    inside.extend(der(0x03, &bits));
    der(0x30, &inside)
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut whole = vec![tag];
    match (significant.as_slice(), u8::try_from(significant.len())) {
        ([short], _) if *short < 0x80 => whole.push(*short),
        (bytes, Ok(count)) => {
            whole.push(0x80 | count);
            whole.extend_from_slice(bytes);
        }
        // A length has eight bytes at most.
        (_, Err(_)) => {}
    }
    whole.extend_from_slice(content);
    whole
}
