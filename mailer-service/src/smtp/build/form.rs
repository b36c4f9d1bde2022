//! The last look at a built mail, whoever built it.

/// Octets of a line without its CRLF (RFC 5322, 2.1.1).
const MAX_LINE: usize = 998;

/// Refuses what could be read in more than one way by the relays it passes: a bare CR or LF is how mails
/// are smuggled into mails. `utf8` allows bytes beyond ASCII in the header (RFC 6532), never in the body.
pub(super) fn check(mail: &[u8], utf8: bool) -> Result<(), &'static str> {
    let mut rest = mail;
    let mut in_header = true;
    while !rest.is_empty() {
        let end = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or("the last line has no end")?;
        let line = rest[..end]
            .strip_suffix(b"\r")
            .ok_or("a line ends without CR")?;
        if line.len() > MAX_LINE {
            return Err("a line is too long");
        }
        if line.iter().any(|byte| matches!(byte, 0 | b'\r')) {
            return Err("a line holds CR or NUL");
        }
        if !(line.is_ascii() || (utf8 && in_header)) {
            return Err("a line is not ASCII");
        }
        in_header &= !line.is_empty();
        rest = &rest[end + 1..];
    }
    if in_header {
        Err("the header does not end")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_lines_pass() {
        assert_eq!(check(b"A: b\r\n\r\nx\r\n", false), Ok(()));
        assert_eq!(check("A: \u{e9}\r\n\r\nx\r\n".as_bytes(), true), Ok(()));
        let long = format!("A: b\r\n\r\n{}\r\n", "x".repeat(999));
        for (mail, utf8) in [
            ("A: b\n\r\n", false),
            ("A: b\r\n\r\nx\r.\r\n", false),
            ("A: b\r\n\r\nx\0\r\n", false),
            ("A: b\r\n\r\nx", false),
            ("A: b\r\n", false),
            ("A: \u{e9}\r\n\r\nx\r\n", false),
            ("A: b\r\n\r\n\u{e9}\r\n", true),
            (long.as_str(), false),
        ] {
            assert!(check(mail.as_bytes(), utf8).is_err(), "{mail:?}");
        }
    }
}
