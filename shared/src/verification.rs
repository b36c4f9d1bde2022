//! Codes and links that prove that somebody reads an address. They stand nowhere: whoever has the secret makes them of
//! what the code is for, to send and to compare.

use crate::pepper::{Mac, Pepper, Peppers, is_equal};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Below the public URL.
pub const MAGIC_PATH: &str = "/magic/";
pub const NOT_ME_PATH: &str = "/not-me/";

/// Consonants that are not taken for each other, and that make no words.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const DIGITS: &[u8; 10] = b"0123456789";
/// Of the MAC in a link: 192 bits.
const LINK_BYTES: usize = 24;

/// How a proof looks; names are wire forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = VerificationForm)]
pub enum Form {
    Digits6,
    Digits8,
    Letters8,
    Link,
}

impl Form {
    pub const ALL: [Self; 4] = [Self::Digits6, Self::Digits8, Self::Letters8, Self::Link];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Digits6 => "digits6",
            Self::Digits8 => "digits8",
            Self::Letters8 => "letters8",
            Self::Link => "link",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// What a proof is for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub verification: Uuid,
    pub purpose: &'a str,
    /// In its canonical form.
    pub recipient: &'a str,
    pub generation: i32,
    pub form: Form,
}

impl Subject<'_> {
    /// The code, or what stands in the link.
    pub fn proof(&self, pepper: &Pepper) -> String {
        match self.form {
            Form::Digits6 => self.code(pepper, DIGITS, 6),
            Form::Digits8 => self.code(pepper, DIGITS, 8),
            Form::Letters8 => self.code(pepper, LETTERS, 8),
            Form::Link => {
                let mac = self.mac(pepper, 0);
                let mac = BASE64_URL_SAFE_NO_PAD.encode(&mac[..LINK_BYTES]);
                format!("{}.{mac}", self.verification.simple())
            }
        }
    }

    /// Whether `given` is the proof, in constant time; with spaces, hyphens and small letters as people type them.
    pub fn is_proven_by(&self, given: &str, pepper: &Pepper) -> bool {
        let given = match self.form {
            Form::Link => given.trim().to_owned(),
            _ => typed(given),
        };
        is_equal(self.proof(pepper).as_bytes(), given.as_bytes())
    }

    /// Numbers that would favour some codes are left out, and the next ones taken.
    fn code(&self, pepper: &Pepper, alphabet: &[u8], length: u32) -> String {
        let base = alphabet.len() as u64;
        let codes = base.pow(length);
        let fair = u64::MAX - u64::MAX % codes;
        let mut round = 0;
        let mut number = loop {
            let mac = self.mac(pepper, round);
            let numbers = mac
                .as_chunks::<8>()
                .0
                .iter()
                .map(|eight| u64::from_be_bytes(*eight));
            if let Some(number) = numbers.into_iter().find(|number| *number < fair) {
                break number % codes;
            }
            round += 1;
        };
        let mut code = Vec::new();
        for _ in 0..length {
            let digit = usize::try_from(number % base).unwrap_or_default();
            code.push(char::from(alphabet[digit]));
            number /= base;
        }
        code.into_iter().rev().collect()
    }

    fn mac(&self, pepper: &Pepper, round: u32) -> Mac {
        pepper.mac(
            "verification",
            &[
                self.verification.as_bytes(),
                self.purpose.as_bytes(),
                self.recipient.as_bytes(),
                &self.generation.to_be_bytes(),
                self.form.as_str().as_bytes(),
                &round.to_be_bytes(),
            ],
        )
    }
}

fn typed(given: &str) -> String {
    let signs = given
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '-' && *c != '.');
    signs.flat_map(char::to_uppercase).collect()
}

/// The verification that a link is for.
pub fn of_link(token: &str) -> Option<Uuid> {
    token.split_once('.')?.0.parse().ok()
}

/// Somebody says that they did not ask for a code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotMe {
    pub verification: Uuid,
    /// Canonical.
    pub recipient: String,
    pub purpose: String,
}

/// What a caller shows elsewhere, for a short while, to say that an address was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub verification: Uuid,
    pub purpose: String,
    pub recipient: String,
    pub verified_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

impl NotMe {
    const USE: &str = "not me";

    /// None without a secret.
    pub fn token(&self, peppers: &Peppers) -> Option<String> {
        seal(Self::USE, self, peppers)
    }

    pub fn of(token: &str, peppers: &Peppers) -> Option<Self> {
        open(Self::USE, token, peppers)
    }
}

impl Receipt {
    const USE: &str = "receipt";

    pub fn token(&self, peppers: &Peppers) -> Option<String> {
        seal(Self::USE, self, peppers)
    }

    /// While it is valid.
    pub fn of(token: &str, peppers: &Peppers, now: DateTime<Utc>) -> Option<Self> {
        let receipt: Self = open(Self::USE, token, peppers)?;
        (now < receipt.expires_at).then_some(receipt)
    }
}

fn seal<T: Serialize>(use_: &str, what: &T, peppers: &Peppers) -> Option<String> {
    let pepper = peppers.first()?;
    let text = serde_json::to_vec(what).ok()?;
    let sealed = BASE64_URL_SAFE_NO_PAD.encode(pepper.seal(use_, &text)?);
    Some(format!("{}.{sealed}", pepper.name()))
}

fn open<T: for<'de> Deserialize<'de>>(use_: &str, token: &str, peppers: &Peppers) -> Option<T> {
    let (name, sealed) = token.split_once('.')?;
    let sealed = BASE64_URL_SAFE_NO_PAD.decode(sealed).ok()?;
    let text = peppers.find(name)?.open(use_, &sealed)?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    fn peppers() -> Peppers {
        let text = "a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= b:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        Peppers::parse(&text.into()).unwrap()
    }

    fn subject(form: Form) -> Subject<'static> {
        Subject {
            verification: Uuid::from_u128(7),
            purpose: "login",
            recipient: "ada@example.com",
            generation: 1,
            form,
        }
    }

    #[test]
    fn codes_are_what_they_are_for() {
        let peppers = peppers();
        let (a, b) = (peppers.find("a").unwrap(), peppers.find("b").unwrap());
        let one = subject(Form::Letters8);
        let others = [
            one.proof(b),
            Subject {
                verification: Uuid::from_u128(8),
                ..one
            }
            .proof(a),
            Subject {
                purpose: "signup",
                ..one
            }
            .proof(a),
            Subject {
                recipient: "bob@example.com",
                ..one
            }
            .proof(a),
            Subject {
                generation: 2,
                ..one
            }
            .proof(a),
        ];
        let all: HashSet<_> = others.iter().cloned().chain([one.proof(a)]).collect();
        assert_eq!(all.len(), 6);
        assert_eq!(one.proof(a), one.proof(a));
        // Mails that wait were made with these: the derivation may not change.
        assert_eq!(subject(Form::Digits6).proof(a).len(), 6);
        insta::assert_snapshot!(
            [Form::Digits6, Form::Digits8, Form::Letters8]
                .map(|form| subject(form).proof(a))
                .join(" ")
        );
    }

    #[test]
    fn a_code_is_taken_as_people_type_it() {
        let peppers = peppers();
        let a = peppers.find("a").unwrap();
        let letters = subject(Form::Letters8);
        let code = letters.proof(a);
        let typed = format!(" {}-{} ", &code[..4].to_lowercase(), &code[4..]);
        assert!(letters.is_proven_by(&typed, a));
        assert!(!letters.is_proven_by(&code[..7], a) && !letters.is_proven_by("", a));
        let link = subject(Form::Link);
        let token = link.proof(a);
        assert!(link.is_proven_by(&token, a) && !link.is_proven_by(&token.to_uppercase(), a));
        assert_eq!(of_link(&token), Some(Uuid::from_u128(7)));
        assert_eq!(token.len(), 32 + 1 + 32);
    }

    #[test]
    fn every_digit_is_as_frequent_in_every_place() {
        let peppers = peppers();
        let a = peppers.find("a").unwrap();
        let mut seen: HashMap<(usize, char), u32> = HashMap::new();
        for n in 0..20_000_u128 {
            let verification = Uuid::from_u128(n);
            let code = Subject {
                verification,
                ..subject(Form::Digits6)
            }
            .proof(a);
            for place in code.chars().enumerate() {
                *seen.entry(place).or_default() += 1;
            }
        }
        assert_eq!(seen.len(), 60);
        // Five standard deviations of a fair tenth.
        assert!(
            seen.values().all(|count| count.abs_diff(2000) < 212),
            "{seen:?}"
        );
    }

    #[test]
    fn receipts_end() {
        let peppers = peppers();
        let now = Utc::now();
        let receipt = Receipt {
            verification: Uuid::from_u128(7),
            purpose: "login".into(),
            recipient: "ada@example.com".into(),
            verified_at: now,
            expires_at: now + chrono::TimeDelta::seconds(300),
        };
        let token = receipt.token(&peppers).unwrap();
        assert_eq!(Receipt::of(&token, &peppers, now), Some(receipt));
        assert_eq!(
            Receipt::of(&token, &peppers, now + chrono::TimeDelta::seconds(300)),
            None
        );
        assert_eq!(NotMe::of(&token, &peppers), None);
    }
}
