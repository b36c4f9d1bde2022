//! `email.send`: one mail to one envelope recipient.

use super::{AcceptDefaults, Kind, PayloadTerms};
use crate::{
    address::{EmailAddress, Mailbox},
    attachment::Attachment,
    backoff::Backoff,
    category::Category,
    fields::FieldError,
    task::{Limits, Queue, TaskId},
    template,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// The payload. `POST /emails` makes one per recipient; `POST /tasks` takes it as it is.
///
/// Groups: when a message has several visible recipients or any Cc or Bcc, every copy carries the same
/// `to`, `cc` and `message_id`, and differs in `recipient` alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmailSend {
    /// Where this copy goes (`RCPT TO`). May be left out when `to` has one address and `cc` none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "ada@example.com")]
    pub recipient: Option<EmailAddress>,
    /// The sender; the configured `mail.default_from` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "Warren <warren@example.com>")]
    pub from: Option<Mailbox>,
    /// The To header: an address or a list of them.
    #[serde(with = "one_or_many")]
    #[schema(value_type = Vec<String>)]
    pub to: Vec<Mailbox>,
    /// The Cc header.
    #[serde(default, with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub cc: Vec<Mailbox>,
    /// The Reply-To header.
    #[serde(default, with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub reply_to: Vec<Mailbox>,
    /// Needed, like at least one of `text` and `html`, unless a template makes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The template that makes subject, text and HTML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<template::Usage>,
    /// The plain text part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The HTML part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// Files that go with it; `POST /emails` alone makes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(read_only)]
    pub attachments: Vec<Attachment>,
    /// Further headers, e.g. `{"X-Campaign": "spring"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What the mail is for; `transactional` when left out.
    #[serde(default, skip_serializing_if = "Category::is_default")]
    pub category: Category,
    /// The caller's own notes about the mail, which nobody else sees.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The content was removed after the mail had ended; such a mail can't be sent again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(read_only)]
    pub content_removed: bool,
    /// The task the Message-ID is derived from; set for all copies of one group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub message_id: Option<TaskId>,
}

/// What the relay said when it took the mail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EmailSent {
    /// The Message-ID header, without angle brackets.
    pub message_id: String,
    /// The configured name of the relay.
    pub relay: String,
    /// The relay's reply to the final dot, e.g. `250 2.0.0 queued as 4F2A`.
    pub reply: String,
}

impl Kind for EmailSend {
    const NAME: &'static str = "email.send";
    const QUEUE: Queue = Queue::Mail;
    const LIMITS: Limits = Limits::DEFAULT;
    /// 14 attempts over about seven hours: longer than a greylist or a relay's restart, short enough
    /// that a receipt or a code is not delivered the day after.
    const BACKOFF: Backoff = Backoff {
        max_attempts: 14,
        first: Duration::from_secs(1),
        factor: 4,
        longest: Duration::from_secs(3600),
    };
    const MARKS_POINT: bool = true;
    type Output = EmailSent;

    fn prepare(&mut self, defaults: &AcceptDefaults) -> Result<(), Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut error =
            |pointer: &str, detail: String| errors.push(FieldError::new(pointer, detail));
        if self.to.is_empty() {
            error("/to", "must name at least one address".into());
        }
        if self.recipient.is_none() {
            match (self.to.as_slice(), self.cc.is_empty()) {
                ([only], true) => self.recipient = Some(only.address.clone()),
                _ => error(
                    "/recipient",
                    "is needed when the mail has several recipients; POST /emails makes one task for each".into(),
                ),
            }
        }
        if self.from.is_none() {
            self.from.clone_from(&defaults.from);
            if self.from.is_none() {
                error(
                    "/from",
                    "is needed, since no mail.default_from is configured".into(),
                );
            }
        }
        let people = self.to.len() + self.cc.len() + self.reply_to.len();
        if people > defaults.max_recipients {
            error(
                "/to",
                format!(
                    "to, cc and reply_to hold {people} addresses, more than the {} allowed (limits.max_recipients)",
                    defaults.max_recipients
                ),
            );
        }
        self.prepare_texts(defaults, &mut errors);
        self.prepare_category(defaults, &mut errors);
        if self.headers.len() > defaults.max_headers {
            let detail = format!(
                "has more than {} entries (limits.max_headers)",
                defaults.max_headers
            );
            errors.push(FieldError::new("/headers", detail));
        }
        errors.extend(self.headers.iter().filter_map(|(name, value)| {
            let pointer = || format!("/headers/{}", name.replace('~', "~0").replace('/', "~1"));
            check_header(name, value)
                .err()
                .map(|detail| FieldError::new(pointer(), detail))
        }));
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }

    fn terms(&self, defaults: &AcceptDefaults) -> PayloadTerms {
        PayloadTerms {
            priority: Some(defaults.categories.priority(self.category)),
            content_ttl_s: defaults.categories.content_ttl_s(self.category),
        }
    }
}

const LONGEST_METADATA_NAME: usize = 64;
const LONGEST_METADATA: usize = 500;

impl EmailSend {
    /// What is left once the mail's content is removed.
    #[must_use]
    pub fn without_content(self) -> Self {
        Self {
            subject: None,
            text: None,
            html: None,
            template: None,
            headers: BTreeMap::new(),
            attachments: Vec::new(),
            content_removed: true,
            ..self
        }
    }

    fn prepare_category(&self, defaults: &AcceptDefaults, errors: &mut Vec<FieldError>) {
        if self.category == Category::Marketing && !defaults.can_unsubscribe {
            let detail = "mails of this category carry a link to unsubscribe, for which http.public_url and secrets.peppers must be configured";
            errors.push(FieldError::new("/category", detail));
        }
        if self.category == Category::Marketing {
            let own = self.headers.keys().filter(|name| {
                let name = name.to_ascii_lowercase();
                name == "list-unsubscribe" || name == "list-unsubscribe-post"
            });
            errors.extend(own.map(|name| {
                let detail = "mails of the category marketing have Warren's own";
                FieldError::new(format!("/headers/{name}"), detail)
            }));
        }
        if !self.attachments.is_empty() {
            let detail = "are for POST /emails, which knows whether the files are there";
            errors.push(FieldError::new("/attachments", detail));
        }
        if self.content_removed {
            let detail = "is set by Warren itself";
            errors.push(FieldError::new("/content_removed", detail));
        }
        if self.metadata.len() > defaults.max_metadata {
            let detail = format!(
                "has more than {} entries (mail.max_metadata)",
                defaults.max_metadata
            );
            errors.push(FieldError::new("/metadata", detail));
        }
        let is_wrong = |(name, value): &(&String, &String)| {
            !(1..=LONGEST_METADATA_NAME).contains(&name.len())
                || value.len() > LONGEST_METADATA
                || [name, value].iter().any(|text| text.contains('\0'))
        };
        if self.metadata.iter().any(|entry| is_wrong(&entry)) {
            let detail = "names must have 1 to 64 bytes, values at most 500, without NUL";
            errors.push(FieldError::new("/metadata", detail));
        }
    }

    /// Subject, text and HTML, or the template that makes them.
    fn prepare_texts(&mut self, defaults: &AcceptDefaults, errors: &mut Vec<FieldError>) {
        if let Some(usage) = &mut self.template {
            for (pointer, part) in [
                ("/subject", &self.subject),
                ("/text", &self.text),
                ("/html", &self.html),
            ] {
                if part.is_some() {
                    let detail = "must not be given together with template, which makes it";
                    errors.push(FieldError::new(pointer, detail));
                }
            }
            match usage.prepare(defaults.templates.as_ref()) {
                Ok(rendered) => check_subject(&rendered.subject, defaults, errors),
                Err(wrong) => {
                    errors.extend(wrong.into_iter().map(|error| error.below("/template")));
                }
            }
            return;
        }
        match &self.subject {
            Some(subject) => check_subject(subject, defaults, errors),
            None => errors.push(FieldError::new("/subject", "is needed; it may be empty")),
        }
        for (pointer, part) in [("/text", &self.text), ("/html", &self.html)] {
            if part.as_ref().is_some_and(|text| text.contains('\0')) {
                errors.push(FieldError::new(pointer, "must not contain NUL"));
            }
        }
        if self.text.is_none() && self.html.is_none() {
            errors.push(FieldError::new("/text", "text, html or both are needed"));
        }
    }
}

fn check_subject(subject: &str, defaults: &AcceptDefaults, errors: &mut Vec<FieldError>) {
    if subject.len() > defaults.max_subject_bytes {
        let detail = format!(
            "is longer than {} bytes (limits.max_subject_bytes)",
            defaults.max_subject_bytes
        );
        errors.push(FieldError::new("/subject", detail));
    }
    if subject.chars().any(char::is_control) {
        let detail = "must not contain control characters such as line breaks";
        errors.push(FieldError::new("/subject", detail));
    }
}

/// Headers that the message is built from; a caller who could set them could forge another message.
const STRUCTURAL: [&str; 14] = [
    "from",
    "to",
    "cc",
    "bcc",
    "sender",
    "reply-to",
    "date",
    "subject",
    "message-id",
    "mime-version",
    "dkim-signature",
    "return-path",
    "received",
    "x-warren-task",
];

/// Checks one extra header. lettre accepts CR and LF in a name, so this is the only guard.
pub fn check_header(name: &str, value: &str) -> Result<(), &'static str> {
    if !(1..=64).contains(&name.len())
        || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    {
        return Err("the name must be 1 to 64 letters, digits and hyphens");
    }
    let lower = name.to_ascii_lowercase();
    if STRUCTURAL.contains(&lower.as_str())
        || lower.starts_with("content-")
        || lower.starts_with("resent-")
    {
        return Err("this header is set by Warren itself; use the field of that name instead");
    }
    if value.len() > 998 || value.chars().any(char::is_control) {
        return Err("the value must be at most 998 bytes without control characters");
    }
    Ok(())
}

/// `"a@b"` and `["a@b", "c@d"]` are both lists; a list is written.
pub mod one_or_many {
    use crate::address::Mailbox;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
    use std::fmt;

    pub fn serialize<S: Serializer>(list: &[Mailbox], serializer: S) -> Result<S::Ok, S::Error> {
        list.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Mailbox>, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Vec<Mailbox>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address or a list of addresses")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Mailbox::parse(text)
                    .map(|mailbox| vec![mailbox])
                    .map_err(E::custom)
            }
            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(Vec::new())
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(list))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields;

    fn prepared(json: &str) -> Result<EmailSend, Vec<FieldError>> {
        let mut mail: EmailSend = fields::parse(json.as_bytes()).map_err(|error| vec![error])?;
        mail.prepare(&AcceptDefaults::for_tests())?;
        Ok(mail)
    }

    #[test]
    fn the_wire_form_is_frozen() {
        let wire = r#"{"recipient":"ada@example.com","from":"Shop <shop@example.com>","to":["Ada <ada@example.com>"],"cc":["bob@example.com"],"reply_to":["help@example.com"],"subject":"Hi","text":"t","html":"<p>h</p>","headers":{"X-A":"b"},"category":"security","metadata":{"order":"7"},"message_id":"01890000-0000-7000-8000-000000000001"}"#;
        let mail: EmailSend = fields::parse(wire.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&mail).unwrap(), wire);
    }

    #[test]
    fn a_single_address_is_the_recipient() {
        let mail = prepared(r#"{"to":"Ada <ada@example.com>","subject":"Hi","text":"x"}"#).unwrap();
        assert_eq!(mail.recipient.unwrap().as_str(), "ada@example.com");
    }

    #[test]
    fn every_bad_field_is_named() {
        let errors = prepared(
            "{\"to\":[],\"subject\":\"a\\r\\nBcc: x\",\"headers\":{\"Bcc\":\"x\",\"X\\r\\nTo\":\"y\",\"X-Ok\":\"a\\nb\"}}",
        )
        .unwrap_err();
        let pointers: Vec<_> = errors.iter().map(|e| e.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            [
                "/to",
                "/recipient",
                "/subject",
                "/text",
                "/headers/Bcc",
                "/headers/X\r\nTo",
                "/headers/X-Ok"
            ]
        );
        let errors =
            prepared(r#"{"to":["a@example.com","b"],"subject":"x","text":"y"}"#).unwrap_err();
        assert_eq!(errors[0].pointer, "/to/1");
    }

    proptest::proptest! {
        #[test]
        fn no_accepted_header_can_hold_a_line_break(name in "[\\PC\r\n]{0,20}", value in "[\\PC\r\n\0]{0,20}") {
            if check_header(&name, &value).is_ok() {
                proptest::prop_assert!(![name, value].concat().contains(['\r', '\n', '\0']));
            }
        }
    }
}
