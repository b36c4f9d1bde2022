//! The requests, made once and numbered in place, so that each mail has a recipient of its own.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Plan;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// One `email.send` of [`MAIL_BYTES`].
    Mail,
    /// The same, to be held when its worker dies.
    HeldMail,
    /// One `demo.noop`.
    Noop,
    /// A mail made of a template that Warren brings.
    TemplateMail,
    /// A verification code.
    Verification,
    /// One `demo.stream` of [`STREAM_LINES`].
    Stream,
    /// One `demo.noop` that is due in [`DELAY_S`].
    Scheduled,
    /// One `demo.sleep` of [`SLEEP_S`] at the lowest priority.
    LowSleep,
    /// The same at the highest.
    HighSleep,
    /// The mail's body to the echo server.
    Echo,
}

/// The size of a mail's request body, as in the comparison with the rivals.
const MAIL_BYTES: usize = 257;
/// Lines that one `demo.stream` puts out, one every half second.
pub const STREAM_LINES: usize = 20;
/// Seconds until a scheduled task is due: all of them are accepted before the first is.
pub const DELAY_S: u64 = 20;
/// Seconds that one `demo.sleep` takes a slot for.
pub const SLEEP_S: f64 = 0.1;
/// Stands where the number goes.
const PLACE: &[u8] = b"000000000000";

impl Body {
    pub fn wanted_status(self) -> u16 {
        match self {
            Self::Echo => 200,
            Self::Verification => 201,
            _ => 202,
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Echo => "/echo",
            Self::Verification => "/api/v1/verifications",
            _ => "/api/v1/tasks",
        }
    }

    fn text(self) -> String {
        if self == Self::Noop {
            return r#"{"kind":"demo.noop","payload":{}}"#.to_owned();
        }
        if self == Self::Scheduled {
            return format!(r#"{{"kind":"demo.noop","payload":{{}},"delay":{DELAY_S}}}"#);
        }
        if let Self::LowSleep | Self::HighSleep = self {
            let priority = if self == Self::LowSleep { 0 } else { 9 };
            return format!(
                r#"{{"kind":"demo.sleep","payload":{{"seconds":{SLEEP_S}}},"priority":{priority}}}"#
            );
        }
        if self == Self::TemplateMail {
            return r#"{"kind":"email.send","payload":{"to":"bench-000000000000@example.com","template":{"name":"warren.welcome","locale":"en","variables":{"name":"Ada","product":"Shop","url":"https://example.com/start"}}}}"#.to_owned();
        }
        if self == Self::Verification {
            return r#"{"recipient":"bench-000000000000@example.com","purpose":"login","locale":"en"}"#.to_owned();
        }
        if self == Self::Stream {
            return format!(
                r#"{{"kind":"demo.stream","payload":{{"chunks":{STREAM_LINES},"interval_ms":500,"size":64}}}}"#
            );
        }
        let begin = r#"{"kind":"email.send","payload":{"to":"bench-000000000000@example.com","subject":"Your receipt","text":"Thank you for your order. "#;
        let end = if self == Self::HeldMail {
            r#""},"on_worker_lost":"hold"}"#
        } else {
            r#""}}"#
        };
        let fill = MAIL_BYTES - begin.len() - end.len();
        format!("{begin}{}{end}", "x".repeat(fill))
    }
}

/// A request's bytes.
#[derive(Debug)]
pub(super) struct Request {
    bytes: Vec<u8>,
    number_at: Option<usize>,
}

impl Request {
    pub(super) fn new(plan: &Plan) -> Self {
        let body = plan.body.text();
        let authorization = plan
            .key
            .as_ref()
            .map(|key| format!("Authorization: Bearer {key}\r\n"))
            .unwrap_or_default();
        let bytes = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\n{authorization}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            plan.body.path(),
            plan.address,
            body.len(),
        )
        .into_bytes();
        let number_at = bytes.windows(PLACE.len()).position(|part| part == PLACE);
        Self { bytes, number_at }
    }

    /// The bytes under the next number of this process.
    pub(super) fn next(&mut self) -> &[u8] {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        if let Some(at) = self.number_at {
            let mut number = NUMBER.fetch_add(1, Ordering::Relaxed);
            for digit in self.bytes[at..at + PLACE.len()].iter_mut().rev() {
                *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
                number /= 10;
            }
        }
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_request_is_new_and_has_the_size_it_says() {
        let address = ([127, 0, 0, 1], 1).into();
        let plan = Plan::mails(address, "wr_x", 1, Duration::ZERO);
        let mut request = Request::new(&plan);
        let one = String::from_utf8(request.next().to_vec()).unwrap();
        let other = String::from_utf8(request.next().to_vec()).unwrap();
        assert_ne!(one, other);
        let (_, body) = one.split_once("\r\n\r\n").unwrap();
        assert_eq!(body.len(), MAIL_BYTES);
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(
            json["payload"]["to"]
                .as_str()
                .unwrap()
                .starts_with("bench-0")
        );
    }
}
