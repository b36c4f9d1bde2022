//! What other servers report of mails: bounces (RFC 3464) and complaints (RFC 5965). What is read here comes from
//! strangers: only the mark in a return path, or a link to unsubscribe, says which mail a report is about, since nobody
//! else can make those.

use mail_parser::{Message, MessageParser, MimeHeaders as _, PartType};
use shared::{
    address::EmailAddress, pepper::Peppers, return_path, task::TaskId, unsubscribe::Unsubscription,
};

/// Parts that are looked at.
const MOST_PARTS: usize = 50;
/// What is kept of another server's words.
const LONGEST_DETAIL: usize = 300;

/// A report that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A mail was delivered, is late, or was not delivered.
    Delivery(Delivery),
    Feedback(Feedback),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub action: Action,
    /// RFC 3463, e.g. `5.1.1`; empty: it says none.
    pub status: String,
    /// The other server's words, addresses masked.
    pub diagnostic: String,
}

/// RFC 3464, 2.3.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Delivered,
    Delayed,
    Failed,
}

/// Someone has said what they think of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    /// `abuse`, `fraud`, `virus`, `not-spam`, `other`, … (RFC 5965, 7.3), in lower case.
    pub kind: String,
}

impl Feedback {
    /// Whether the owner of the address wants no more of it.
    pub fn is_complaint(&self) -> bool {
        self.kind != "not-spam"
    }
}

/// A report, and how to find what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// None: the message is no report.
    pub report: Option<Report>,
    /// The mail whose mark it bears.
    pub task: Option<TaskId>,
    /// From the mail that it encloses.
    pub unsubscription: Option<Unsubscription>,
}

/// Where our marks are found.
#[derive(Debug, Clone, Copy)]
pub struct Marks<'a> {
    pub return_path: Option<&'a EmailAddress>,
    pub peppers: &'a Peppers,
}

/// Reads a message as it came by SMTP. `recipient`: where it was sent to, if that is known.
pub fn parse(raw: &[u8], recipient: Option<&str>, marks: Marks<'_>) -> Option<Parsed> {
    let message = MessageParser::default().parse(raw)?;
    let mut parsed = Parsed {
        report: None,
        task: recipient.and_then(|address| marks.task(address)),
        unsubscription: None,
    };
    for name in ["Delivered-To", "X-Original-To", "Envelope-To", "To"] {
        parsed.task = parsed.task.or_else(|| marks.in_header(&message, name));
    }
    for part in message.parts.iter().take(MOST_PARTS) {
        let kind = part.content_type().map(|kind| {
            let sub = kind.subtype().unwrap_or_default();
            format!("{}/{sub}", kind.ctype()).to_ascii_lowercase()
        });
        match kind.as_deref() {
            Some("message/delivery-status" | "message/global-delivery-status") => {
                parsed.report = delivery(part.contents()).map(Report::Delivery);
            }
            Some("message/feedback-report") => {
                let fields = groups(part.contents())
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>();
                if let Some(from) = field(&fields, "original-mail-from") {
                    parsed.task = parsed.task.or_else(|| marks.task(from));
                }
                parsed.report = field(&fields, "feedback-type").map(|kind| {
                    let kind = kind.chars().take(40).collect::<String>();
                    Report::Feedback(Feedback {
                        kind: kind.to_ascii_lowercase(),
                    })
                });
            }
            _ => {}
        }
        if let PartType::Message(enclosed) = &part.body {
            marks.look_into(enclosed, &mut parsed);
        } else if kind.as_deref() == Some("text/rfc822-headers")
            && let Some(enclosed) = MessageParser::default().parse(part.contents())
        {
            marks.look_into(&enclosed, &mut parsed);
        }
    }
    Some(parsed)
}

impl Marks<'_> {
    /// From `<bounce+mark@…>`, with or without brackets and a name.
    fn task(&self, text: &str) -> Option<TaskId> {
        let inside = text
            .rsplit_once('<')
            .map_or(text, |(_, rest)| rest.trim_end_matches('>'));
        return_path::task(inside.trim(), self.return_path?, self.peppers)
    }

    fn in_header(&self, message: &Message<'_>, name: &str) -> Option<TaskId> {
        let values = message.header_values(name.to_owned());
        let addresses = values.flat_map(|value| {
            let listed = value.as_address().map(|list| {
                let listed = list.iter().filter_map(|one| one.address.as_deref());
                listed.map(str::to_owned).collect::<Vec<_>>()
            });
            listed.unwrap_or_else(|| value.as_text().map(str::to_owned).into_iter().collect())
        });
        addresses.into_iter().find_map(|text| self.task(&text))
    }

    fn look_into(&self, enclosed: &Message<'_>, parsed: &mut Parsed) {
        parsed.task = parsed
            .task
            .or_else(|| self.in_header(enclosed, "Return-Path"));
        if parsed.unsubscription.is_some() {
            return;
        }
        let raw = enclosed.header_raw("List-Unsubscribe");
        parsed.unsubscription = raw.and_then(|value| {
            let (_, rest) = value.split_once(shared::unsubscribe::PATH)?;
            let (token, _) = rest.split_once('>')?;
            Unsubscription::of(token.trim(), self.peppers)
        });
    }
}

/// The worst that is said of any recipient: each of our mails has but one.
fn delivery(bytes: &[u8]) -> Option<Delivery> {
    let told = groups(bytes).into_iter().filter_map(|fields| {
        let action = match field(&fields, "action")?.to_ascii_lowercase().as_str() {
            "failed" => Action::Failed,
            "delayed" => Action::Delayed,
            "delivered" | "relayed" | "expanded" => Action::Delivered,
            _ => return None,
        };
        let status = field(&fields, "status").unwrap_or_default();
        let status = status.split_whitespace().next().unwrap_or_default();
        let diagnostic = field(&fields, "diagnostic-code").unwrap_or_default();
        let words = diagnostic
            .split_once(';')
            .map_or(diagnostic, |(_, words)| words.trim());
        Some(Delivery {
            action,
            status: if is_status(status) {
                status.to_owned()
            } else {
                String::new()
            },
            diagnostic: masked(words),
        })
    });
    told.max_by_key(|one| one.action)
}

/// Three numbers (RFC 3463, 2).
fn is_status(text: &str) -> bool {
    let parts: Vec<_> = text.split('.').collect();
    let is_number =
        |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    parts.len() == 3 && parts.iter().all(is_number)
}

/// Without what may be an address, and in one line.
fn masked(words: &str) -> String {
    let words = words
        .split_whitespace()
        .map(|word| if word.contains('@') { "***" } else { word });
    let line = words.collect::<Vec<_>>().join(" ");
    let visible = line.chars().filter(|c| !c.is_control());
    visible.take(LONGEST_DETAIL).collect()
}

type Fields = Vec<(String, String)>;

/// Groups of header fields, with empty lines between them (RFC 3464, 2.1); names in lower case, folded lines joined.
fn groups(bytes: &[u8]) -> Vec<Fields> {
    let text = String::from_utf8_lossy(bytes);
    let mut groups = vec![Fields::new()];
    for line in text.lines() {
        let Some(group) = groups.last_mut() else {
            break;
        };
        if line.trim().is_empty() {
            if !group.is_empty() {
                groups.push(Fields::new());
            }
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = group.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            group.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    groups
}

fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    let found = fields.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests;
