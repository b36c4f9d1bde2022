//! Replies of the relay: what they mean, and how their text is made fit for a task's error.
//!
//! The first digit decides (RFC 5321, 4.2.1): a client must not depend on more. The exceptions are few
//! and lie where the reply is not about the mail but about us.

use super::error::{Class, SendError, code};
use std::time::Duration;

/// Characters of a relay's text that are kept.
pub(super) const MAX_TEXT: usize = 300;

/// Greylisters commonly want 5 minutes (RFC 6647, 2.1 and 3); a try before that may start their clock anew.
pub(super) const GREYLIST_WAIT: Duration = Duration::from_secs(300);

/// A wrong password or certificate is mended by a person, not by the next second.
pub(super) const SETUP_WAIT: Duration = Duration::from_secs(300);

/// Where in the dialogue something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// TCP, greeting, EHLO.
    Connect,
    Tls,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// From the first byte of the mail to the reply to the final dot.
    Body,
    Reset,
}

impl Phase {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "the greeting and EHLO",
            Self::Tls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL FROM",
            Self::Rcpt => "RCPT TO",
            Self::Data => "DATA",
            Self::Body => "the mail itself",
            Self::Reset => "RSET",
        }
    }
}

/// Gives a negative reply its class.
pub(super) fn classify(phase: Phase, smtp_code: u16, text: &str) -> SendError {
    let enhanced = enhanced(smtp_code, text);
    let (class, code) = class(phase, smtp_code, enhanced, text);
    SendError {
        smtp_code: Some(smtp_code),
        enhanced: enhanced.map(str::to_owned),
        ..SendError::new(class, code, clean(text))
    }
}

fn class(
    phase: Phase,
    smtp_code: u16,
    enhanced: Option<&str>,
    text: &str,
) -> (Class, &'static str) {
    match (phase, smtp_code) {
        (_, 421) => (Class::Retry, code::SERVICE_CLOSING),
        (Phase::Auth, 500..) | (_, 530 | 534 | 535 | 538) => {
            (Class::RetryAfter(SETUP_WAIT), code::AUTH_FAILED)
        }
        (Phase::Auth, _) => (Class::Retry, code::AUTH_FAILED),
        (Phase::Tls, _) => (Class::Retry, code::TLS_FAILED),
        (Phase::Connect | Phase::Reset, _) => (Class::Retry, code::RELAY_REFUSED),
        (_, 450 | 451) if is_greylisting(enhanced, text) => {
            (Class::RetryAfter(GREYLIST_WAIT), code::GREYLISTED)
        }
        (_, ..500) => (Class::Retry, code::TEMPORARY),
        _ => (Class::Fail, code::PERMANENT),
    }
}

fn is_greylisting(enhanced: Option<&str>, text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    enhanced == Some("4.7.1")
        || ["greylist", "graylist", "grey-list", "gray-list"]
            .iter()
            .any(|word| text.contains(word))
}

/// The first word, if it is an enhanced status code whose class agrees with the reply's (RFC 2034, 4).
fn enhanced(smtp_code: u16, text: &str) -> Option<&str> {
    let word = text.split_whitespace().next()?;
    let mut parts = word.split('.');
    let class = parts.next()?.parse::<u16>().ok()?;
    let number = |part: Option<&str>| {
        part.is_some_and(|p| (1..=3).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()))
    };
    let well_formed = number(parts.next()) && number(parts.next()) && parts.next().is_none();
    (well_formed && class == smtp_code / 100).then_some(word)
}

/// One line of at most [`MAX_TEXT`] characters without control characters and with addresses masked.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_TEXT));
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
    {
        if !out.is_empty() {
            out.push(' ');
        }
        mask(word, &mut out);
        if out.len() > 4 * MAX_TEXT {
            break;
        }
    }
    if let Some((end, _)) = out.char_indices().nth(MAX_TEXT) {
        out.truncate(end);
    }
    out
}

/// `<ada@example.com>:` becomes `<a***@e***>:`, as [`shared::address::EmailAddress`] prints itself.
fn mask(word: &str, out: &mut String) {
    let around = |c: char| "<>()[]\"',;:".contains(c);
    let mut rest = word;
    while let Some(at) = rest.find('@') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        let local = before.rfind(around).map_or(0, |i| i + 1);
        let domain = after.find(|c| around(c) || c == '@').unwrap_or(after.len());
        out.push_str(&before[..local]);
        for part in [&before[local..], &after[..domain]] {
            out.extend(part.chars().next());
            out.push_str("***@");
        }
        out.pop();
        rest = &after[domain..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        use Class::{Fail, Retry, RetryAfter};
        use Phase::{Auth, Body, Connect, Data, Mail, Rcpt, Tls};
        for (phase, smtp_code, text, class, code, enhanced) in [
            (
                Connect,
                421,
                "4.3.2 shutting down",
                Retry,
                "smtp_421",
                Some("4.3.2"),
            ),
            (
                Connect,
                554,
                "no service",
                Retry,
                "smtp_relay_refused",
                None,
            ),
            (
                Tls,
                454,
                "4.7.0 not now",
                Retry,
                "smtp_tls_failed",
                Some("4.7.0"),
            ),
            (
                Auth,
                535,
                "5.7.8 bad credentials",
                RetryAfter(SETUP_WAIT),
                "smtp_auth_failed",
                Some("5.7.8"),
            ),
            (
                Auth,
                504,
                "unknown mechanism",
                RetryAfter(SETUP_WAIT),
                "smtp_auth_failed",
                None,
            ),
            (
                Auth,
                454,
                "4.7.0 temporary",
                Retry,
                "smtp_auth_failed",
                Some("4.7.0"),
            ),
            (
                Mail,
                530,
                "5.7.0 authenticate first",
                RetryAfter(SETUP_WAIT),
                "smtp_auth_failed",
                Some("5.7.0"),
            ),
            (
                Mail,
                552,
                "5.3.4 too big",
                Fail,
                "smtp_permanent",
                Some("5.3.4"),
            ),
            (Rcpt, 421, "bye", Retry, "smtp_421", None),
            (
                Rcpt,
                450,
                "4.2.1 mailbox busy",
                Retry,
                "smtp_temporary",
                Some("4.2.1"),
            ),
            (
                Rcpt,
                450,
                "4.2.0 Greylisted, see x",
                RetryAfter(GREYLIST_WAIT),
                "smtp_greylisted",
                Some("4.2.0"),
            ),
            (
                Rcpt,
                451,
                "4.7.1 try again later",
                RetryAfter(GREYLIST_WAIT),
                "smtp_greylisted",
                Some("4.7.1"),
            ),
            (
                Rcpt,
                452,
                "4.7.1 too many",
                Retry,
                "smtp_temporary",
                Some("4.7.1"),
            ),
            (
                Rcpt,
                550,
                "5.1.1 no such user",
                Fail,
                "smtp_permanent",
                Some("5.1.1"),
            ),
            (Rcpt, 550, "4.7.1 odd", Fail, "smtp_permanent", None),
            (Rcpt, 571, "denied", Fail, "smtp_permanent", None),
            (Data, 451, "local error", Retry, "smtp_temporary", None),
            (
                Body,
                554,
                "5.7.1 spam",
                Fail,
                "smtp_permanent",
                Some("5.7.1"),
            ),
            (
                Body,
                452,
                "4.3.1 disk full",
                Retry,
                "smtp_temporary",
                Some("4.3.1"),
            ),
            (Body, 451, "5.x.1 y", Retry, "smtp_temporary", None),
        ] {
            let error = classify(phase, smtp_code, text);
            assert_eq!(
                (error.class, error.code, error.enhanced.as_deref()),
                (class, code, enhanced),
                "{phase:?} {smtp_code} {text}"
            );
            assert_eq!(error.smtp_code, Some(smtp_code));
        }
    }

    #[test]
    fn texts_are_one_short_line_without_addresses() {
        for (text, cleaned) in [
            (
                "5.1.1 <ada@example.com>: unknown",
                "5.1.1 <a***@e***>: unknown",
            ),
            ("a@b c@d,e@f", "a***@b*** c***@d***,e***@f***"),
            ("x\r\ny\u{7}\tz", "x y z"),
            (
                "@ a@ @b a@b@c",
                "***@*** a***@*** ***@b*** a***@b******@c***",
            ),
            ("j\u{f6}rg@b\u{fc}cher.example", "j***@b***"),
        ] {
            assert_eq!(clean(text), cleaned);
        }
        assert_eq!(clean(&"\u{e9} ".repeat(1000)).chars().count(), MAX_TEXT);
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_long_or_breaks_a_line(text in "[\\PC\r\n@<> ]{0,400}") {
            let cleaned = clean(&text);
            proptest::prop_assert!(cleaned.chars().count() <= MAX_TEXT && !cleaned.contains(char::is_control));
        }
    }
}
