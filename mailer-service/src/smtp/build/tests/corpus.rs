//! Texts that have broken other mailers, in every place where a caller's text goes.

use super::*;
use mail_parser::MimeHeaders as _;
use serde_json::json;
use shared::attachment::{Attachment, check_filename};
use shared::files::FileId;

#[test]
fn a_hostile_text_makes_no_other_mail() {
    for line in include_str!("../../../../../shared/tests/corpus/hostile.jsonl").lines() {
        let text: String = serde_json::from_str(line).unwrap();
        let json = json!({
            "recipient": "r@example.com", "to": [format!("\"{text}\" <to@example.com>")], "subject": text, "text": text,
            "html": text, "headers": {"X-Text": text},
        });
        let plain = json!({"recipient": "r@example.com", "to": ["to@example.com"], "subject": "x", "text": text, "html": text});
        for json in [json, plain] {
            let Ok(mut mail) = serde_json::from_value::<EmailSend>(json) else {
                continue;
            };
            if mail.prepare(&defaults()).is_err() {
                continue;
            }
            let name = if check_filename(&text).is_ok() {
                &text
            } else {
                "a.bin"
            };
            mail.attachments = vec![Attachment {
                file: FileId::of(text.as_bytes()),
                filename: name.to_owned(),
                content_type: "application/octet-stream".into(),
                size: text.len() as u64,
                content_id: None,
            }];
            let built = build(
                ID,
                &mail,
                &[text.as_bytes()],
                None,
                &BuildOptions::default(),
            );
            let built = built.unwrap_or_else(|error| panic!("{line}: {error}"));
            let parsed = MessageParser::default().parse(&built).unwrap();
            for header in ["From", "To", "Subject", "MIME-Version", "Content-Type"] {
                assert_eq!(parsed.header_values(header).count(), 1, "{line}: {header}");
            }
            for header in ["Bcc", "Cc", "Return-Path"] {
                assert_eq!(parsed.header_values(header).count(), 0, "{line}: {header}");
            }
            // Alternative of two, and one file, whose name and content are what they were.
            assert_eq!(parsed.parts.len(), 5, "{line}");
            let file = parsed.attachment(0).unwrap();
            assert_eq!(file.contents(), text.as_bytes(), "{line}");
            let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(
                file.attachment_name().map(squeezed),
                Some(squeezed(name)),
                "{line}"
            );
        }
    }
}
