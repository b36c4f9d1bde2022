//! Mail addresses, parsed once at the door. What these types hold can go into an SMTP command and a
//! header as it is: no control character, no quoting, an ASCII domain.
//!
//! Accepted is the dot-atom form of RFC 5322 with the UTF-8 local parts of RFC 6532; quoted local
//! parts and address literals are refused, since nobody has a mailbox there and attackers use them.

use serde::{Deserialize, Deserializer, Serialize, de};
use std::fmt;

/// `local@domain`; the domain is kept in its ASCII (punycode) form, lower case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EmailAddress {
    text: String,
    at: usize,
}

/// Why a text is no address we can send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("must have the form name@domain")]
    NoAt,
    #[error(
        "the part before the @ must be 1 to 64 bytes of letters, digits and !#$%&'*+/=?^_`{{|}}~- with single dots between"
    )]
    Local,
    #[error("the domain after the @ is not a valid host name")]
    Domain,
    #[error("must be 254 bytes or less")]
    TooLong,
    #[error("the display name must be 1 to 200 bytes without control characters")]
    Name,
}

impl EmailAddress {
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::NoAt)?;
        if !(1..=64).contains(&local.len()) || !local.split('.').all(is_atom) {
            return Err(AddressError::Local);
        }
        let domain = idna::domain_to_ascii_strict(domain).map_err(|_| AddressError::Domain)?;
        if !is_host_name(&domain) {
            return Err(AddressError::Domain);
        }
        let text = format!("{local}@{domain}");
        if text.len() > 254 {
            return Err(AddressError::TooLong);
        }
        Ok(Self {
            at: local.len(),
            text,
        })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The form by which two addresses are the same mailbox for all we know: in lower case.
    pub fn canonical(&self) -> String {
        self.text.to_lowercase()
    }

    pub fn local(&self) -> &str {
        &self.text[..self.at]
    }

    pub fn domain(&self) -> &str {
        &self.text[self.at + 1..]
    }
}

fn is_atom(atom: &str) -> bool {
    !atom.is_empty()
        && atom.chars().all(|c| {
            c.is_ascii_alphanumeric()
                || "!#$%&'*+/=?^_`{|}~-".contains(c)
                || (!c.is_ascii() && !c.is_control() && !c.is_whitespace())
        })
}

fn is_host_name(domain: &str) -> bool {
    (1..=253).contains(&domain.len())
        && domain.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
        // An all-numeric last label would be an IPv4 address (RFC 3696).
        && !domain.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
}

/// Personal data does not print itself: `a***@e***`.
impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = |text: &str| text.chars().next().unwrap_or('?');
        write!(f, "{}***@{}***", first(self.local()), first(self.domain()))
    }
}

impl Serialize for EmailAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for EmailAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// An address with an optional display name: `ada@example.com` or `Ada Lovelace <ada@example.com>`.
#[derive(Clone, PartialEq, Eq)]
pub struct Mailbox {
    pub name: Option<String>,
    pub address: EmailAddress,
}

impl Mailbox {
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let Some((name, rest)) = text.strip_suffix('>').and_then(|t| t.rsplit_once('<')) else {
            return EmailAddress::parse(text).map(Self::from);
        };
        let address = EmailAddress::parse(rest)?;
        let name = name.trim();
        let name = name
            .strip_prefix('"')
            .and_then(|n| n.strip_suffix('"'))
            .unwrap_or(name);
        if name.is_empty() {
            return Ok(address.into());
        }
        // A control character in a name would break out of the header (and panics in the builder).
        if name.len() > 200 || name.chars().any(char::is_control) {
            return Err(AddressError::Name);
        }
        Ok(Self {
            name: Some(name.to_owned()),
            address,
        })
    }
}

impl From<EmailAddress> for Mailbox {
    fn from(address: EmailAddress) -> Self {
        Self {
            name: None,
            address,
        }
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} <{}>", self.address.as_str()),
            None => f.write_str(self.address.as_str()),
        }
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Serialize for Mailbox {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mailbox {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepts_what_people_have() {
        for (text, stored) in [
            ("ada@example.com", "ada@example.com"),
            ("a.b+c@Example.COM", "a.b+c@example.com"),
            ("o'hara@mail.example", "o'hara@mail.example"),
            ("root@localhost", "root@localhost"),
            (
                "j\u{f6}rg@b\u{fc}cher.example",
                "j\u{f6}rg@xn--bcher-kva.example",
            ),
        ] {
            assert_eq!(EmailAddress::parse(text).unwrap().as_str(), stored);
        }
    }

    #[test]
    fn refuses_what_is_no_mailbox() {
        for text in [
            "",
            "ada",
            "@example.com",
            "ada@",
            "a b@example.com",
            "a..b@example.com",
            ".a@b.example",
            "a@b@example.com",
            "\"a b\"@example.com",
            "a@[127.0.0.1]",
            "a@127.0.0.1",
            "a@-x.example",
            "a@b..example",
            "a\r\n@example.com",
            "a@exam\nple.com",
            "a@b_c.example",
            "<a@b.example>x",
        ] {
            assert!(Mailbox::parse(text).is_err(), "{text:?}");
        }
        assert!(EmailAddress::parse(&format!("{}@example.com", "a".repeat(65))).is_err());
    }

    #[test]
    fn mailboxes_keep_their_name_and_hide_it() {
        let mailbox = Mailbox::parse("\"Lovelace, Ada\" <ada@example.com>").unwrap();
        assert_eq!(mailbox.name.as_deref(), Some("Lovelace, Ada"));
        assert_eq!(format!("{mailbox:?}"), "a***@e***");
        assert!(Mailbox::parse("Ada\r\nBcc: x <ada@example.com>").is_err());
    }

    #[test]
    fn what_is_hostile_is_refused_or_harmless() {
        for line in include_str!("../tests/corpus/hostile.jsonl").lines() {
            let text: String = serde_json::from_str(line).unwrap();
            for text in [
                text.clone(),
                format!("{text}@example.com"),
                format!("{text} <a@example.com>"),
                format!("\"{text}\" <a@example.com>"),
            ] {
                let Ok(mailbox) = Mailbox::parse(&text) else {
                    continue;
                };
                let address = mailbox.address.as_str();
                let is_special =
                    |c: char| c.is_control() || c.is_whitespace() || "<>\"(),;:\\[]".contains(c);
                assert!(!address.contains(is_special), "{line}");
                assert!(mailbox.address.domain().is_ascii(), "{line}");
                assert!(
                    !mailbox
                        .name
                        .is_some_and(|name| name.contains(char::is_control)),
                    "{line}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn a_parsed_address_is_safe_in_a_command(text in "\\PC{0,40}@?\\PC{0,40}|[ -~\r\n]{0,60}") {
            if let Ok(mailbox) = Mailbox::parse(&text) {
                let address = mailbox.address.as_str();
                prop_assert!(!address.contains(|c: char| c.is_control() || c.is_whitespace() || "<>\"(),;:\\[]".contains(c)));
                prop_assert!(mailbox.address.domain().is_ascii());
                prop_assert_eq!(EmailAddress::parse(address).unwrap(), mailbox.address.clone());
                prop_assert_eq!(Mailbox::parse(&mailbox.to_string()).unwrap().address, mailbox.address);
            }
        }
    }
}
