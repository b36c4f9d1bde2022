//! Command lines (RFC 5321, 4.1.1). Any bytes give a command or the reply that refuses them.

use super::path;

/// A command with its arguments still in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Ehlo(&'a str),
    Helo(&'a str),
    Mail(Mail<'a>),
    Rcpt(&'a str),
    Data,
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
    StartTls,
    Auth {
        mechanism: &'a str,
        initial: Option<&'a str>,
    },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mail<'a> {
    /// Empty for `<>`.
    pub(super) from: &'a str,
    pub(super) size: Option<u64>,
    pub(super) smtputf8: bool,
    pub(super) eight_bit: bool,
}

/// A fixed reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) u16, pub(super) &'static str);

const UNKNOWN: Refusal = Refusal(500, "5.5.2 Command not recognized");
const NOT_IMPLEMENTED: Refusal = Refusal(502, "5.5.1 Command not implemented");
const SYNTAX: Refusal = Refusal(501, "5.5.4 Syntax error in parameters");
const BAD_PATH: Refusal = Refusal(501, "5.1.3 Bad address syntax");
const UNKNOWN_PARAMETER: Refusal =
    Refusal(555, "5.5.4 Parameter not recognized or not implemented");

pub(super) fn parse(line: &[u8]) -> Result<Command<'_>, Refusal> {
    let line = std::str::from_utf8(line).map_err(|_| UNKNOWN)?.trim_end();
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim();
    match verb.to_ascii_uppercase().as_str() {
        "EHLO" => word(rest).map(Command::Ehlo),
        "HELO" => word(rest).map(Command::Helo),
        "MAIL" => mail(rest).map(Command::Mail),
        "RCPT" => rcpt(rest).map(Command::Rcpt),
        "AUTH" => auth(rest),
        "VRFY" if rest.is_empty() => Err(SYNTAX),
        "VRFY" => Ok(Command::Vrfy),
        "NOOP" => Ok(Command::Noop),
        "HELP" => Ok(Command::Help),
        "DATA" => alone(rest, Command::Data),
        "RSET" => alone(rest, Command::Rset),
        "QUIT" => alone(rest, Command::Quit),
        "STARTTLS" => alone(rest, Command::StartTls),
        "EXPN" | "TURN" | "ETRN" | "BDAT" | "SEND" | "SOML" | "SAML" => Err(NOT_IMPLEMENTED),
        _ => Err(UNKNOWN),
    }
}

fn alone<'a>(rest: &str, command: Command<'a>) -> Result<Command<'a>, Refusal> {
    if rest.is_empty() {
        Ok(command)
    } else {
        Err(SYNTAX)
    }
}

fn word(rest: &str) -> Result<&str, Refusal> {
    rest.split(' ')
        .next()
        .filter(|word| !word.is_empty() && !word.chars().any(char::is_control))
        .ok_or(SYNTAX)
}

/// What follows a keyword in any case, e.g. `FROM:`.
fn after<'a>(rest: &'a str, keyword: &str) -> Result<&'a str, Refusal> {
    match rest.get(..keyword.len()) {
        Some(start) if start.eq_ignore_ascii_case(keyword) => Ok(&rest[keyword.len()..]),
        _ => Err(SYNTAX),
    }
}

fn mail(rest: &str) -> Result<Mail<'_>, Refusal> {
    let (from, parameters) = path::parse(after(rest, "FROM:")?).ok_or(BAD_PATH)?;
    let mut mail = Mail {
        from,
        ..Mail::default()
    };
    for parameter in parameters.split_ascii_whitespace() {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name.to_ascii_uppercase().as_str() {
            "SIZE" => mail.size = Some(value.parse().map_err(|_| SYNTAX)?),
            "BODY" if value.eq_ignore_ascii_case("8BITMIME") => mail.eight_bit = true,
            "BODY" if value.eq_ignore_ascii_case("7BIT") => {}
            "BODY" => return Err(SYNTAX),
            "SMTPUTF8" if value.is_empty() => mail.smtputf8 = true,
            // Who is said to have submitted it (RFC 4954, 5); everybody is believed and nobody asks.
            "AUTH" if !value.is_empty() => {}
            _ => return Err(UNKNOWN_PARAMETER),
        }
    }
    Ok(mail)
}

fn rcpt(rest: &str) -> Result<&str, Refusal> {
    match path::parse(after(rest, "TO:")?) {
        None | Some(("", _)) => Err(BAD_PATH),
        Some((to, "")) => Ok(to),
        Some(_) => Err(UNKNOWN_PARAMETER),
    }
}

fn auth(rest: &str) -> Result<Command<'_>, Refusal> {
    let mut words = rest.split_ascii_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(mechanism), initial, None) => Ok(Command::Auth { mechanism, initial }),
        _ => Err(SYNTAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let from = |from| Mail {
            from,
            ..Mail::default()
        };
        for (line, expected) in [
            ("ehlo a.test", Ok(Command::Ehlo("a.test"))),
            ("EHLO", Err(SYNTAX)),
            ("HELO a", Ok(Command::Helo("a"))),
            ("MAIL FROM:<a@b>", Ok(Command::Mail(from("a@b")))),
            ("mail from: <>", Ok(Command::Mail(from("")))),
            (
                "MAIL FROM:<a@b> SIZE=12 body=8bitmime SMTPUTF8",
                Ok(Command::Mail(Mail {
                    from: "a@b",
                    size: Some(12),
                    smtputf8: true,
                    eight_bit: true,
                })),
            ),
            ("MAIL FROM:<a@b> SIZE=x", Err(SYNTAX)),
            ("MAIL FROM:<a@b> SIZE=-1", Err(SYNTAX)),
            ("MAIL FROM:<a@b> BODY=BINARYMIME", Err(SYNTAX)),
            ("MAIL FROM:<a@b> RET=HDRS", Err(UNKNOWN_PARAMETER)),
            ("MAIL <a@b>", Err(SYNTAX)),
            ("MAIL FROM:a@b", Err(BAD_PATH)),
            ("MAIL", Err(SYNTAX)),
            ("RCPT TO:<a@b>", Ok(Command::Rcpt("a@b"))),
            ("RCPT TO:<>", Err(BAD_PATH)),
            ("RCPT TO:<a@b> NOTIFY=NEVER", Err(UNKNOWN_PARAMETER)),
            ("RCPT TÖ:<a@b>", Err(SYNTAX)),
            ("DATA", Ok(Command::Data)),
            ("DATA x", Err(SYNTAX)),
            ("NOOP anything", Ok(Command::Noop)),
            ("VRFY", Err(SYNTAX)),
            (
                "AUTH PLAIN AGEAYg==",
                Ok(Command::Auth {
                    mechanism: "PLAIN",
                    initial: Some("AGEAYg=="),
                }),
            ),
            ("AUTH", Err(SYNTAX)),
            ("BDAT 1 LAST", Err(NOT_IMPLEMENTED)),
            ("GET / HTTP/1.1", Err(UNKNOWN)),
            ("", Err(UNKNOWN)),
        ] {
            assert_eq!(parse(line.as_bytes()), expected, "{line}");
        }
        assert_eq!(parse(b"MAIL FROM:<\xff@b>"), Err(UNKNOWN));
        assert_eq!(parse(b"\0\x01\x02"), Err(UNKNOWN));
    }
}
