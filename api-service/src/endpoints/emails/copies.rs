//! From a mail to its copies: who gets one, and what each says.

use shared::{
    address::{EmailAddress, Mailbox},
    category::Category,
    fields::FieldError,
    kinds::{AcceptDefaults, EmailSend, Kind},
    task::TaskId,
    template,
};
use std::collections::{BTreeMap, HashSet};
use uuid::Uuid;

/// A mail as it was asked for.
#[derive(Debug, Clone, Default)]
pub(in crate::endpoints) struct Mail {
    pub(in crate::endpoints) to: Vec<Mailbox>,
    pub(in crate::endpoints) cc: Vec<Mailbox>,
    pub(in crate::endpoints) bcc: Vec<Mailbox>,
    pub(in crate::endpoints) from: Option<Mailbox>,
    pub(in crate::endpoints) reply_to: Vec<Mailbox>,
    pub(in crate::endpoints) subject: Option<String>,
    pub(in crate::endpoints) template: Option<template::Usage>,
    pub(in crate::endpoints) text: Option<String>,
    pub(in crate::endpoints) html: Option<String>,
    pub(in crate::endpoints) headers: BTreeMap<String, String>,
    pub(in crate::endpoints) category: Category,
    pub(in crate::endpoints) metadata: BTreeMap<String, String>,
}

/// One copy for each recipient, with the id of its task. Errors name the fields of the request.
pub(super) fn copies(
    mail: Mail,
    defaults: &AcceptDefaults,
) -> Result<Vec<(TaskId, EmailSend)>, Vec<FieldError>> {
    let mut errors = Vec::new();
    check_number(&mail, defaults, &mut errors);
    let is_group = !mail.cc.is_empty() || !mail.bcc.is_empty();
    let recipients = recipients(&mail);
    let mut whole = EmailSend {
        recipient: mail.to.first().map(|first| first.address.clone()),
        from: mail.from,
        to: mail.to,
        cc: mail.cc,
        reply_to: mail.reply_to,
        subject: mail.subject,
        template: mail.template,
        text: mail.text,
        html: mail.html,
        headers: mail.headers,
        attachments: Vec::new(),
        category: mail.category,
        metadata: mail.metadata,
        content_removed: false,
        message_id: None,
    };
    // What holds for the whole mail holds for each copy, so it is checked once. A copy without its
    // recipient is no mistake of the caller's, and the number of addresses has been checked.
    if let Err(wrong) = whole.prepare(defaults) {
        let is_counted = errors.iter().any(|error| error.pointer == "/to");
        errors.extend(wrong.into_iter().filter(|error| {
            error.pointer != "/recipient" && !(is_counted && error.pointer == "/to")
        }));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(if is_group {
        group(&whole, recipients)
    } else {
        singles(&whole, recipients)
    })
}

fn check_number(mail: &Mail, defaults: &AcceptDefaults, errors: &mut Vec<FieldError>) {
    let people = mail.to.len() + mail.cc.len() + mail.bcc.len() + mail.reply_to.len();
    if people > defaults.max_recipients {
        errors.push(FieldError::new(
            "/to",
            format!(
                "to, cc, bcc and reply_to hold {people} addresses, more than the {} allowed (limits.max_recipients)",
                defaults.max_recipients
            ),
        ));
    }
}

/// Everybody in `to`, `cc` and `bcc`, each address once, as first named.
fn recipients(mail: &Mail) -> Vec<Mailbox> {
    let mut seen: HashSet<&EmailAddress> = HashSet::new();
    [&mail.to, &mail.cc, &mail.bcc]
        .into_iter()
        .flatten()
        .filter(|mailbox| seen.insert(&mailbox.address))
        .cloned()
        .collect()
}

/// Copies of one mail that there may be at most.
const MOST_COPIES: usize = 1 << COPY_BITS;
const COPY_BITS: u32 = 10;

/// The ids of a mail's copies follow each other, and that of the first ends with zero bits: so any of them tells all
/// others, and the rows stand side by side in the primary key.
fn first_id() -> TaskId {
    of_mail(TaskId::now()).0
}

fn nth(first: TaskId, index: usize) -> TaskId {
    TaskId(Uuid::from_u128(first.0.as_u128() | index as u128))
}

/// The ids among which all copies of that mail are: the first and the last.
pub(super) fn of_mail(copy: TaskId) -> (TaskId, TaskId) {
    let last = copy.0.as_u128() | (MOST_COPIES as u128 - 1);
    let first = last ^ (MOST_COPIES as u128 - 1);
    (
        TaskId(Uuid::from_u128(first)),
        TaskId(Uuid::from_u128(last)),
    )
}

/// The same message for everybody.
fn group(whole: &EmailSend, recipients: Vec<Mailbox>) -> Vec<(TaskId, EmailSend)> {
    let first = first_id();
    recipients
        .into_iter()
        .enumerate()
        .map(|(index, recipient)| {
            let id = nth(first, index);
            let copy = EmailSend {
                recipient: Some(recipient.address),
                message_id: Some(first),
                ..whole.clone()
            };
            (id, copy)
        })
        .collect()
}

/// A message of its own for everybody.
fn singles(whole: &EmailSend, recipients: Vec<Mailbox>) -> Vec<(TaskId, EmailSend)> {
    let first = first_id();
    recipients
        .into_iter()
        .enumerate()
        .map(|(index, recipient)| {
            let copy = EmailSend {
                recipient: Some(recipient.address.clone()),
                to: vec![recipient],
                ..whole.clone()
            };
            (nth(first, index), copy)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> AcceptDefaults {
        let config = shared::config::Config::with(&[]).unwrap();
        AcceptDefaults {
            from: Mailbox::parse("Warren <warren@example.com>").ok(),
            max_recipients: 5,
            max_subject_bytes: 998,
            max_headers: 20,
            max_metadata: 20,
            can_unsubscribe: false,
            categories: config.mail.categories,
            outbound: std::sync::Arc::default(),
            templates: std::sync::Arc::new(template::NothingStored),
        }
    }

    fn list(addresses: &[&str]) -> Vec<Mailbox> {
        addresses
            .iter()
            .map(|one| Mailbox::parse(one).unwrap())
            .collect()
    }

    fn mail(to: &[&str], cc: &[&str], bcc: &[&str]) -> Mail {
        Mail {
            to: list(to),
            cc: list(cc),
            bcc: list(bcc),
            subject: Some("Hi".into()),
            text: Some("x".into()),
            ..Mail::default()
        }
    }

    fn pointers(mail: Mail) -> Vec<String> {
        let errors = copies(mail, &defaults()).unwrap_err();
        errors.into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn each_of_to_gets_a_mail_of_its_own() {
        let copies = copies(
            mail(
                &["Ada <ada@x.example>", "bob@x.example", "ada@X.example"],
                &[],
                &[],
            ),
            &defaults(),
        )
        .unwrap();
        assert_eq!(copies.len(), 2);
        for (_, copy) in &copies {
            assert_eq!(copy.to.len(), 1);
            assert_eq!(copy.recipient.as_ref(), Some(&copy.to[0].address));
            assert_eq!(copy.message_id, None);
            assert!(copy.from.is_some());
        }
        assert_ne!(copies[0].0, copies[1].0);
    }

    #[test]
    fn a_group_gets_the_same_mail() {
        let copies = copies(
            mail(
                &["ada@x.example"],
                &["bob@x.example", "ada@x.example"],
                &["eve@x.example"],
            ),
            &defaults(),
        )
        .unwrap();
        let recipients: Vec<_> = copies
            .iter()
            .map(|(_, copy)| copy.recipient.as_ref().unwrap().as_str())
            .collect();
        assert_eq!(
            recipients,
            ["ada@x.example", "bob@x.example", "eve@x.example"]
        );
        for (_, copy) in &copies {
            assert_eq!(copy.message_id, Some(copies[0].0));
            assert_eq!((copy.to.len(), copy.cc.len()), (1, 2));
            let shown = serde_json::to_string(&EmailSend {
                recipient: None,
                ..copy.clone()
            })
            .unwrap();
            assert!(!shown.contains("eve@"));
        }
    }

    #[test]
    fn mistakes_are_named_as_in_the_request() {
        assert_eq!(pointers(mail(&[], &["a@x.example"], &[])), ["/to"]);
        assert_eq!(
            pointers(mail(
                &["a@x.example", "b@x.example"],
                &["c@x.example", "d@x.example"],
                &["e@x.example", "f@x.example"]
            )),
            ["/to"]
        );
        assert_eq!(
            pointers(mail(
                &["a@x.example", "b@x.example", "c@x.example"],
                &["d@x.example", "e@x.example", "f@x.example"],
                &[]
            )),
            ["/to"]
        );
        let wrong = Mail {
            subject: None,
            text: None,
            headers: BTreeMap::from([("Bcc".into(), "x".into())]),
            ..mail(&["a@x.example"], &[], &[])
        };
        assert_eq!(pointers(wrong), ["/subject", "/text", "/headers/Bcc"]);
    }
}
