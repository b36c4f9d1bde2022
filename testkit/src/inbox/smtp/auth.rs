//! AUTH PLAIN (RFC 4616) and LOGIN.

use std::io;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::{
    command::Refusal,
    wire::{Line, Stream, Wire},
};
use crate::inbox::Auth;

const BAD_ENCODING: Refusal = Refusal(501, "5.5.2 Can't decode the credentials");
const CANCELLED: Refusal = Refusal(501, "5.7.0 Authentication cancelled");
const WRONG: Refusal = Refusal(535, "5.7.8 Authentication credentials invalid");
const UNKNOWN_MECHANISM: Refusal = Refusal(504, "5.5.4 Unrecognized authentication type");

/// "Username:" and "Password:", which are what clients of LOGIN expect to be asked.
const ASK_USER: &str = "VXNlcm5hbWU6";
const ASK_PASSWORD: &str = "UGFzc3dvcmQ6";

/// Asks for the credentials and checks them: the user, or how to refuse. The outer error is the connection's.
pub(super) async fn authenticate<S: Stream>(
    wire: &mut Wire<S>,
    accepted: &Auth,
    mechanism: &str,
    initial: Option<&str>,
) -> io::Result<Result<String, Refusal>> {
    let credentials = if mechanism.eq_ignore_ascii_case("PLAIN") {
        answer(wire, "", initial)
            .await?
            .and_then(|answer| plain(&answer))
    } else if mechanism.eq_ignore_ascii_case("LOGIN") {
        match answer(wire, ASK_USER, initial).await? {
            Ok(user) => answer(wire, ASK_PASSWORD, None)
                .await?
                .map(|password| (user, password)),
            Err(refusal) => Err(refusal),
        }
    } else {
        Err(UNKNOWN_MECHANISM)
    };
    Ok(credentials.and_then(|(user, password)| {
        if accepted.accepts(&user, &password) {
            Ok(user)
        } else {
            Err(WRONG)
        }
    }))
}

/// The initial response, or the client's answer to this challenge; decoded.
async fn answer<S: Stream>(
    wire: &mut Wire<S>,
    challenge: &str,
    initial: Option<&str>,
) -> io::Result<Result<String, Refusal>> {
    if let Some(initial) = initial {
        // "=" stands for an empty response (RFC 4954, 4).
        return Ok(decode(if initial == "=" {
            b""
        } else {
            initial.as_bytes()
        }));
    }
    wire.reply(334, challenge);
    let mut line = Vec::new();
    Ok(match wire.line(&mut line).await? {
        Line::End => return Err(io::ErrorKind::UnexpectedEof.into()),
        Line::TooLong => Err(BAD_ENCODING),
        Line::Read if line == b"*" => Err(CANCELLED),
        Line::Read => decode(&line),
    })
}

fn decode(text: &[u8]) -> Result<String, Refusal> {
    let bytes = BASE64.decode(text).map_err(|_| BAD_ENCODING)?;
    String::from_utf8(bytes).map_err(|_| BAD_ENCODING)
}

/// `[authorization id] NUL user NUL password`.
fn plain(answer: &str) -> Result<(String, String), Refusal> {
    let mut parts = answer.split('\0');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(user), Some(password), None) => Ok((user.to_owned(), password.to_owned())),
        _ => Err(BAD_ENCODING),
    }
}
