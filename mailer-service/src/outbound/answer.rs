//! What an endpoint answered, read up to a limit.

use http_body_util::BodyExt as _;
use hyper::{
    StatusCode,
    body::Incoming,
    header::{HeaderMap, RETRY_AFTER},
};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout_at};

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// As it came, up to `outbound.max_response_bytes`; nothing is unpacked.
    pub body: Vec<u8>,
    pub ending: Ending,
    /// Redirects that were followed.
    pub redirects: u8,
    /// An endpoint before the last redirect has acted on the request: this answer is to what it had us ask then.
    pub has_acted: bool,
    pub took: Duration,
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Whole,
    /// More of it was not read.
    TooLong,
    /// The connection broke, or time was up.
    Broken,
}

/// Reads no more than `most` bytes, and not longer than until then.
pub(super) async fn read_body(
    mut body: Incoming,
    most: usize,
    until: Instant,
) -> (Vec<u8>, Ending) {
    let mut bytes = Vec::new();
    loop {
        let data = match timeout_at(until, body.frame()).await {
            Ok(None) => return (bytes, Ending::Whole),
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            Ok(Some(Err(_))) | Err(_) => return (bytes, Ending::Broken),
        };
        let room = most - bytes.len();
        bytes.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return (bytes, Ending::TooLong);
        }
    }
}

/// What a `Retry-After` asks for, in either form (RFC 9110, 10.2.3).
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_retry_after() {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("Sun Nov  6 08:50:37 1994", Some(60)),
            // Past already.
            ("Sun, 06 Nov 1994 08:40:00 GMT", Some(0)),
            ("99999999999999999999", None),
            ("-1", None),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(
                retry_after(&headers, now),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
