//! Files that go with a mail.

use crate::files::FileId;
use serde::{Deserialize, Serialize};

/// An attachment as a mail's payload names it; its content is in the file store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// The SHA-256 of its content.
    #[schema(value_type = String)]
    pub file: FileId,
    pub filename: String,
    pub content_type: String,
    /// Bytes.
    pub size: u64,
    /// Of an image that the HTML part shows, as `<img src="cid:…">`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_id: Option<String>,
}

const LONGEST_NAME: usize = 255;
const LONGEST_ID: usize = 128;

/// The extension of a file name, without the dot.
pub fn extension(filename: &str) -> Option<&str> {
    let (_, extension) = filename.trim_end_matches(['.', ' ']).rsplit_once('.')?;
    Some(extension)
}

/// What is wrong with a file's name.
pub fn check_filename(name: &str) -> Result<(), &'static str> {
    if !(1..=LONGEST_NAME).contains(&name.len()) {
        return Err("must be 1 to 255 bytes");
    }
    if name.chars().any(|c| c.is_control() || "/\\".contains(c)) || is_reordering(name) {
        return Err("must be a name without folders and without control characters");
    }
    // Mail programs take it for an encoded word (RFC 2047), also where it is none.
    if name.contains("=?") {
        return Err("must not contain '=?'");
    }
    Ok(())
}

/// Signs that turn the direction of writing make `exe.gpj` look like a picture.
fn is_reordering(text: &str) -> bool {
    text.chars()
        .any(|c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}'))
}

/// What is wrong with a media type: `type/subtype`, both as in RFC 6838, 4.2, and no parameters.
pub fn check_content_type(text: &str) -> Result<(), &'static str> {
    let is_name = |name: &str| {
        (1..=127).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
    };
    let Some((kind, subtype)) = text.split_once('/') else {
        return Err("must be a media type such as application/pdf");
    };
    if !is_name(kind) || !is_name(subtype) {
        return Err("must be a media type such as application/pdf, without parameters");
    }
    // Their bytes may not be encoded as those of files are (RFC 2046, 5.1 and 5.2).
    if ["multipart", "message"].contains(&kind.to_ascii_lowercase().as_str()) {
        return Err(
            "must not be multipart/… or message/…; application/octet-stream takes any file",
        );
    }
    Ok(())
}

/// What is wrong with a Content-ID, without its angle brackets.
pub fn check_content_id(text: &str) -> Result<(), &'static str> {
    let is_sign = |b: u8| b.is_ascii_alphanumeric() || b"!#$&'*+-/=?^_{|}~.@".contains(&b);
    if (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(is_sign) {
        Ok(())
    } else {
        Err("must be 1 to 128 letters, digits and ._-@+")
    }
}

/// An upper bound of the bytes that a file of `size` takes in a mail: base64 in lines of 76 with CRLF, and its headers.
pub fn encoded_size(size: u64) -> u64 {
    let base64 = size.div_ceil(3) * 4;
    base64 + base64.div_ceil(76) * 2 + 2000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_types_and_ids_are_checked() {
        for name in ["report.pdf", "Rechnung März.pdf", "报告.pdf", ".profile"] {
            assert_eq!(check_filename(name), Ok(()), "{name}");
        }
        for name in [
            "",
            "a/b",
            "a\\b",
            "a\r\nb",
            "a\0",
            "x\u{202e}gpj.exe",
            &"x".repeat(256),
        ] {
            assert!(check_filename(name).is_err(), "{name:?}");
        }
        assert_eq!(extension("a.tar.GZ"), Some("GZ"));
        assert_eq!(extension("evil.exe. "), Some("exe"));
        assert_eq!(extension("none"), None);
        for kind in [
            "application/pdf",
            "image/svg+xml",
            "application/vnd.ms-excel",
        ] {
            assert_eq!(check_content_type(kind), Ok(()), "{kind}");
        }
        for kind in [
            "pdf",
            "a/",
            "a/b; c=d",
            "text/x\r\nTo: y",
            "multipart/mixed",
            "Message/rfc822",
        ] {
            assert!(check_content_type(kind).is_err(), "{kind}");
        }
        assert_eq!(check_content_id("logo@1"), Ok(()));
        for id in ["", "<x>", "a b", "x\r\n"] {
            assert!(check_content_id(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn what_is_hostile_is_no_name_type_or_id() {
        for line in include_str!("../tests/corpus/hostile.jsonl").lines() {
            let text: String = serde_json::from_str(line).unwrap();
            if check_filename(&text).is_ok() {
                assert!(
                    !text.contains(|c: char| c.is_control() || "/\\".contains(c)),
                    "{line}"
                );
            }
            for checked in [check_content_type(&text), check_content_id(&text)] {
                let is_plain = |c: char| c.is_ascii_graphic() && !"<>\"\\;,".contains(c);
                assert!(checked.is_err() || text.chars().all(is_plain), "{line}");
            }
        }
    }

    #[test]
    fn sizes_are_bounds() {
        assert_eq!(encoded_size(0), 2000);
        assert!(encoded_size(57) >= 76 + 2 && encoded_size(58) >= 76 + 2 + 4 + 2);
    }
}
