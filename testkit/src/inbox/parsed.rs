//! The parts of a mail that people and tests look at, decoded.

use mail_parser::{Address, MessageParser, MessagePart, MimeHeaders, PartType};
use serde::Serialize;

use super::headers;

/// Characters of [`Parsed::snippet`].
const SNIPPET_LENGTH: usize = 250;

/// A mail taken apart. What a mail lacks is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    pub message_id: String,
    pub from: Option<Mailbox>,
    pub to: Vec<Mailbox>,
    pub cc: Vec<Mailbox>,
    pub bcc: Vec<Mailbox>,
    pub reply_to: Vec<Mailbox>,
    pub subject: String,
    /// The Date header as RFC 3339.
    pub date: Option<String>,
    /// The `text/plain` parts; empty if there is none.
    pub text: String,
    /// The `text/html` parts; empty if there is none.
    pub html: String,
    /// The beginning of the text, made from HTML where there is no text.
    pub snippet: String,
    /// All header fields in order, unfolded but not decoded.
    pub headers: Vec<(String, String)>,
    /// Parts shown within the HTML.
    pub inline: Vec<Attachment>,
    pub attachments: Vec<Attachment>,
}

/// A display name, possibly empty, and an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mailbox {
    pub name: String,
    pub address: String,
}

/// A part that is not the mail's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Attachment {
    #[serde(rename = "PartID")]
    pub part_id: String,
    pub file_name: String,
    pub content_type: String,
    #[serde(rename = "ContentID")]
    pub content_id: String,
    pub size: usize,
}

impl Parsed {
    /// Takes a mail apart; never fails, since a mail is hostile input.
    pub fn from_raw(raw: &[u8]) -> Self {
        let headers = all_headers(raw);
        let Some(mail) = MessageParser::default().parse(raw) else {
            return Self {
                headers,
                ..Self::default()
            };
        };
        let (inline, attachments) = mail
            .attachments
            .iter()
            .filter_map(|index| Some((*index, mail.parts.get(*index as usize)?)))
            .partition::<Vec<_>, _>(|(_, part)| matches!(part.body, PartType::InlineBinary(_)));
        Self {
            message_id: mail.message_id().unwrap_or_default().to_owned(),
            from: mailboxes(mail.from()).into_iter().next(),
            to: mailboxes(mail.to()),
            cc: mailboxes(mail.cc()),
            bcc: mailboxes(mail.bcc()),
            reply_to: mailboxes(mail.reply_to()),
            subject: mail.subject().unwrap_or_default().to_owned(),
            date: mail.date().map(mail_parser::DateTime::to_rfc3339),
            text: bodies(mail.text_bodies(), |body| match body {
                PartType::Text(text) => Some(text),
                _ => None,
            }),
            html: bodies(mail.html_bodies(), |body| match body {
                PartType::Html(html) => Some(html),
                _ => None,
            }),
            snippet: snippet(&mail),
            headers,
            inline: inline
                .into_iter()
                .map(|(index, part)| attachment(index, part))
                .collect(),
            attachments: attachments
                .into_iter()
                .map(|(index, part)| attachment(index, part))
                .collect(),
        }
    }

    /// The first value of a header, the name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// Header fields as text, undecodable bytes replaced.
pub(super) fn all_headers(raw: &[u8]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    headers::fields(raw)
        .map(|(name, value)| (text(name), text(&value)))
        .collect()
}

/// `type/subtype` of a part.
pub(super) fn content_type(part: &MessagePart<'_>) -> String {
    part.content_type().map_or_else(
        || "application/octet-stream".to_owned(),
        |kind| {
            format!(
                "{}/{}",
                kind.ctype(),
                kind.subtype().unwrap_or("octet-stream")
            )
        },
    )
}

fn attachment(index: u32, part: &MessagePart<'_>) -> Attachment {
    Attachment {
        part_id: index.to_string(),
        file_name: part.attachment_name().unwrap_or_default().to_owned(),
        content_type: content_type(part),
        content_id: part.content_id().unwrap_or_default().to_owned(),
        size: part.body.len(),
    }
}

fn mailboxes(address: Option<&Address<'_>>) -> Vec<Mailbox> {
    let mailbox = |addr: &mail_parser::Addr<'_>| Mailbox {
        name: addr.name().unwrap_or_default().to_owned(),
        address: addr.address().unwrap_or_default().to_owned(),
    };
    address
        .map(|address| address.iter().map(mailbox).collect())
        .unwrap_or_default()
}

fn bodies<'a>(
    parts: impl Iterator<Item = &'a MessagePart<'a>>,
    wanted: impl Fn(&'a PartType<'a>) -> Option<&'a std::borrow::Cow<'a, str>>,
) -> String {
    parts
        .filter_map(|part| wanted(&part.body))
        .map(AsRef::as_ref)
        .collect::<Vec<&str>>()
        .join("\n")
}

fn snippet(mail: &mail_parser::Message<'_>) -> String {
    let preview = mail.body_preview(SNIPPET_LENGTH).unwrap_or_default();
    preview.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_multipart_mail_apart() {
        let raw = "From: =?utf-8?q?J=C3=BCrgen?= <j@warren.test>\r\nTo: a@warren.test, B <b@warren.test>\r\n\
            Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n\
            --o\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n\
            --i\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nplain\r\n--i\r\n\
            Content-Type: text/html\r\n\r\n<p>rich</p>\r\n--i--\r\n--o\r\n\
            Content-Type: application/pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\n\r\nPDF\r\n--o--\r\n";
        let mail = Parsed::from_raw(raw.as_bytes());
        assert_eq!(
            mail.from.as_ref().map(|from| from.name.as_str()),
            Some("Jürgen")
        );
        assert_eq!(mail.to.len(), 2);
        assert_eq!(mail.subject, "Grüße");
        assert_eq!(
            (mail.text.trim(), mail.html.trim()),
            ("plain", "<p>rich</p>")
        );
        assert_eq!(mail.attachments[0].file_name, "a.pdf");
        assert_eq!(mail.attachments[0].content_type, "application/pdf");
        assert_eq!(mail.snippet, "plain");
    }

    #[test]
    fn a_text_mail_has_no_html_and_the_other_way_round() {
        let text = Parsed::from_raw(b"Subject: a\r\n\r\nhello\r\n");
        assert_eq!((text.text.trim(), text.html.as_str()), ("hello", ""));
        let html = Parsed::from_raw(b"Content-Type: text/html\r\n\r\n<b>hello</b>\r\n");
        assert_eq!(
            (html.text.as_str(), html.html.trim(), html.snippet.as_str()),
            ("", "<b>hello</b>", "hello")
        );
    }

    #[test]
    fn hostile_bytes_are_taken_apart_too() {
        for raw in [
            &b""[..],
            b"\xff\xff",
            b"Content-Type: multipart/mixed; boundary=\r\n\r\n--\r\n--",
            b"\r\n\r\n",
            b"Subject:",
        ] {
            let _ = Parsed::from_raw(raw);
        }
    }
}
