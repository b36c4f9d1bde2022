//! Mails as Mailpit's API shows them.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::inbox::{Attachment, Mailbox, Message, Parsed};

/// A line of a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Summary {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "MessageID")]
    message_id: String,
    read: bool,
    from: Option<Mailbox>,
    to: Vec<Mailbox>,
    cc: Vec<Mailbox>,
    bcc: Vec<Mailbox>,
    reply_to: Vec<Mailbox>,
    subject: String,
    created: DateTime<Utc>,
    tags: [String; 0],
    size: usize,
    attachments: usize,
    snippet: String,
}

/// One mail in full.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Detail {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "MessageID")]
    message_id: String,
    from: Option<Mailbox>,
    to: Vec<Mailbox>,
    cc: Vec<Mailbox>,
    bcc: Vec<Mailbox>,
    reply_to: Vec<Mailbox>,
    return_path: String,
    subject: String,
    date: String,
    tags: [String; 0],
    text: String,
    #[serde(rename = "HTML")]
    html: String,
    size: usize,
    inline: Vec<Attachment>,
    attachments: Vec<Attachment>,
    /// Not Mailpit's: how the mail came.
    envelope: Envelope,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope {
    from: String,
    to: Vec<String>,
    received: DateTime<Utc>,
    helo: String,
    client: String,
    #[serde(rename = "TLS")]
    tls: bool,
    user: Option<String>,
}

/// The people of a mail, completed from its envelope.
struct People {
    from: Option<Mailbox>,
    to: Vec<Mailbox>,
    bcc: Vec<Mailbox>,
}

impl Summary {
    pub(super) fn of(message: &Message) -> Self {
        let parsed = message.parsed();
        let people = People::of(message, &parsed);
        Self {
            id: message.id.to_string(),
            message_id: parsed.message_id,
            read: message.is_read(),
            from: people.from,
            to: people.to,
            cc: parsed.cc,
            bcc: people.bcc,
            reply_to: parsed.reply_to,
            subject: parsed.subject,
            created: message.received_at,
            tags: [],
            size: message.size,
            attachments: parsed.attachments.len(),
            snippet: parsed.snippet,
        }
    }
}

impl Detail {
    pub(super) fn of(message: &Message) -> Self {
        let parsed = message.parsed();
        let people = People::of(message, &parsed);
        Self {
            id: message.id.to_string(),
            message_id: parsed.message_id,
            from: people.from,
            to: people.to,
            cc: parsed.cc,
            bcc: people.bcc,
            reply_to: parsed.reply_to,
            return_path: message.envelope_from.clone(),
            subject: parsed.subject,
            date: parsed
                .date
                .unwrap_or_else(|| message.received_at.to_rfc3339()),
            tags: [],
            text: parsed.text,
            html: parsed.html,
            size: message.size,
            inline: parsed.inline,
            attachments: parsed.attachments,
            envelope: Envelope {
                from: message.envelope_from.clone(),
                to: message.envelope_to.clone(),
                received: message.received_at,
                helo: message.client.helo.clone(),
                client: message.client.address.to_string(),
                tls: message.client.tls,
                user: message.client.user.clone(),
            },
        }
    }
}

impl People {
    /// In light mode the envelope stands for the headers. Otherwise recipients that no header names are Bcc.
    fn of(message: &Message, parsed: &Parsed) -> Self {
        let bare = |address: &String| Mailbox {
            name: String::new(),
            address: address.clone(),
        };
        if message.raw.is_empty() {
            return Self {
                from: Some(bare(&message.envelope_from)),
                to: message.envelope_to.iter().map(bare).collect(),
                bcc: Vec::new(),
            };
        }
        let named = |address: &String| {
            [&parsed.to, &parsed.cc, &parsed.bcc]
                .into_iter()
                .flatten()
                .any(|mailbox| mailbox.address.eq_ignore_ascii_case(address))
        };
        let hidden = message
            .envelope_to
            .iter()
            .filter(|address| !named(address))
            .map(bare);
        Self {
            from: parsed.from.clone(),
            to: parsed.to.clone(),
            bcc: parsed.bcc.iter().cloned().chain(hidden).collect(),
        }
    }
}
