//! DKIM signatures (RFC 6376; Ed25519 by RFC 8463), relaxed in headers and body.
//!
//! From and Subject are named once more than they occur, so that nobody can add another one below the signature. A mail is
//! signed by every key of its sender's domain, or of the nearest domain above that has any: so during a rotation, or with
//! both algorithms, a receiver finds a signature that it can check. The time of signing is the mail's own Date, so that
//! every attempt sends the same bytes.

mod canonical;
mod key;

use crate::setup::{SetupError, wrong};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use canonical::{Field, body, fields, header};
use key::SigningKey;
use ring::{
    digest::{SHA256, digest},
    error::Unspecified,
};
use shared::{address::EmailAddress, config};
use std::{collections::BTreeMap, fmt::Write as _};

/// Signed where they occur; the first two once more than that.
const SIGNED: [&str; 12] = [
    "from",
    "subject",
    "to",
    "cc",
    "reply-to",
    "date",
    "message-id",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "list-unsubscribe",
    "list-unsubscribe-post",
];
const OVERSIGNED: usize = 2;
/// Base64 in one line of the header.
const LINE: usize = 68;

/// The keys of all domains.
#[derive(Debug, Default)]
pub struct Signers(Vec<Signer>);

#[derive(Debug)]
struct Signer {
    /// In ASCII and lower case.
    domain: String,
    selector: String,
    key: SigningKey,
}

impl Signers {
    /// Checks every key, and logs the DNS record that it needs.
    pub fn new(keys: &BTreeMap<String, config::Dkim>) -> Result<Self, SetupError> {
        let signer = |(name, dkim): (&String, &config::Dkim)| {
            let at = |field: &str| format!("mail.dkim.{name}.{field}");
            let domain = EmailAddress::parse(&format!("x@{}", dkim.domain))
                .map_err(|error| wrong(at("domain"), "must be a domain").caused_by(error))?;
            if !is_selector(&dkim.selector) {
                let text = "must be letters, digits, '-' and '.', at most 63";
                return Err(wrong(at("selector"), text));
            }
            let signer = Signer {
                domain: domain.domain().to_ascii_lowercase(),
                selector: dkim.selector.clone(),
                key: SigningKey::load(dkim, at)?,
            };
            let (record, text) = signer.record();
            tracing::info!(
                dkim.domain = signer.domain,
                "mails are signed; the DNS record for it is {record} TXT \"{text}\""
            );
            Ok(signer)
        };
        keys.iter().map(signer).collect::<Result<_, _>>().map(Self)
    }

    /// The DNS records that receivers look for: names and texts.
    pub fn records(&self) -> BTreeMap<String, String> {
        self.0.iter().map(Signer::record).collect()
    }

    /// The header fields to put before a mail, each with its CRLF; none where its domain has no key. `date`: seconds of the
    /// Unix epoch.
    ///
    /// # Errors
    /// The machine could not sign now.
    pub fn sign(
        &self,
        from: &EmailAddress,
        date: i64,
        mail: &[u8],
    ) -> Result<Vec<u8>, Unspecified> {
        let mut own = self.of(from.domain()).peekable();
        if own.peek().is_none() {
            return Ok(Vec::new());
        }
        let (fields, text) = fields(mail);
        let hash = BASE64_STANDARD.encode(digest(&SHA256, &body(text)));
        let (names, mut signed) = chosen(&fields);
        signed.push_str("dkim-signature:");
        let mut written = String::new();
        for signer in own {
            signer.write(&mut written, date, &names, &hash, &signed)?;
        }
        Ok(written.into_bytes())
    }

    fn of<'a>(&'a self, domain: &str) -> impl Iterator<Item = &'a Signer> + use<'a> {
        let domain = domain.to_ascii_lowercase();
        let mut at = domain.as_str();
        let mut found = String::new();
        loop {
            if self.0.iter().any(|signer| signer.domain == at) {
                at.clone_into(&mut found);
                break;
            }
            let Some((_, above)) = at.split_once('.') else {
                break;
            };
            at = above;
        }
        self.0.iter().filter(move |signer| signer.domain == found)
    }
}

/// The names for `h=`, and what is signed of them: from the bottom up where a name occurs several times.
fn chosen(fields: &[Field<'_>]) -> (String, String) {
    let mut names: Vec<&str> = Vec::new();
    let mut signed = String::new();
    for (at, name) in SIGNED.iter().enumerate() {
        let is_it = |field: &&Field<'_>| field.0.eq_ignore_ascii_case(name.as_bytes());
        for (_, value) in fields.iter().rev().filter(is_it) {
            names.push(name);
            let _ = write!(signed, "{name}:{}\r\n", header(value));
        }
        if at < OVERSIGNED {
            names.push(name);
        }
    }
    (names.join(":"), signed)
}

impl Signer {
    fn record(&self) -> (String, String) {
        let name = format!("{}._domainkey.{}", self.selector, self.domain);
        (name, self.key.record())
    }

    fn write(
        &self,
        written: &mut String,
        date: i64,
        names: &str,
        hash: &str,
        signed: &str,
    ) -> Result<(), Unspecified> {
        let names = names.replace(":date", ":\r\n\tdate");
        let begun = format!(
            " v=1; a={}; c=relaxed/relaxed; d={}; s={};\r\n\tt={date}; h={names};\r\n\tbh={hash};\r\n\tb=",
            self.key.algorithm(),
            self.domain,
            self.selector,
        );
        let signature = self
            .key
            .sign(format!("{signed}{}", header(begun.as_bytes())).as_bytes())?;
        let signature = BASE64_STANDARD.encode(signature);
        let _ = write!(written, "DKIM-Signature:{begun}");
        // Base64 is ASCII.
        for (at, letter) in signature.chars().enumerate() {
            if at > 0 && at % LINE == 0 {
                written.push_str("\r\n\t");
            }
            written.push(letter);
        }
        written.push_str("\r\n");
        Ok(())
    }
}

fn is_selector(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    text.len() <= 63 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests;
