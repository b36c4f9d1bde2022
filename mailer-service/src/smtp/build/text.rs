//! Text made fit for lettre, where lettre would pass on what must not be sent.

use lettre::message::header::{HeaderName, HeaderValue};
use std::fmt::Write as _;

/// Octets of one word that lettre, which folds at spaces only, may leave on a line with a name before it.
const MAX_WORD: usize = 900;

/// Every line end, also a bare CR or LF, as CRLF; lettre leaves a bare CR in place.
pub(super) fn crlf(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 32 + 2);
    let mut rest = text;
    while let Some(end) = rest.find(['\r', '\n']) {
        out.push_str(&rest[..end]);
        out.push_str("\r\n");
        rest = rest[end..].strip_prefix("\r\n").unwrap_or(&rest[end + 1..]);
    }
    out.push_str(rest);
    out
}

/// Without its last line end, since lettre adds one to a single part.
pub(super) fn last_line_open(mut text: String) -> String {
    if text.ends_with("\r\n") {
        text.truncate(text.len() - 2);
    }
    text
}

/// The Subject. Text that looks like an encoded word is encoded, so that it is shown as it was given.
pub(super) fn subject(text: &str) -> HeaderValue {
    let name = HeaderName::new_from_ascii_str("Subject");
    if text.contains("=?") {
        encoded(name, text)
    } else {
        header(name, text)
    }
}

/// Any other header with text in it.
pub(super) fn header(name: HeaderName, text: &str) -> HeaderValue {
    if text
        .split(' ')
        .any(|word| word.is_ascii() && word.len() > MAX_WORD)
    {
        encoded(name, text)
    } else {
        HeaderValue::new(name, text.to_owned())
    }
}

fn encoded(name: HeaderName, text: &str) -> HeaderValue {
    HeaderValue::dangerous_new_pre_encoded(name, text.to_owned(), encoded_words(text))
}

/// Encoded words in Q encoding (RFC 2047, 4.2), one a line; characters are not split.
fn encoded_words(text: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for character in text.chars() {
        let mut piece = String::new();
        for byte in character.encode_utf8(&mut [0; 4]).bytes() {
            if byte.is_ascii_alphanumeric() {
                piece.push(byte.into());
            } else {
                // A String takes everything that is written to it.
                let _ = write!(piece, "={byte:02X}");
            }
        }
        if word.len() + piece.len() > 48 {
            let _ = write!(out, "=?utf-8?q?{word}?=\r\n ");
            word.clear();
        }
        word.push_str(&piece);
    }
    let _ = write!(out, "=?utf-8?q?{word}?=");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_end_becomes_crlf() {
        assert_eq!(
            crlf("a\nb\r\nc\rd\r\r\ne\n\r"),
            "a\r\nb\r\nc\r\nd\r\n\r\ne\r\n\r\n"
        );
        assert_eq!(last_line_open(crlf("a\n\n")), "a\r\n");
    }

    #[test]
    fn encoded_words_are_short_and_whole() {
        let words = encoded_words(&"=?\u{e9}".repeat(20));
        assert!(words.lines().all(|line| line.len() <= 76), "{words}");
        assert!(words.starts_with("=?utf-8?q?=3D=3F=C3=A9=3D"), "{words}");
    }
}
