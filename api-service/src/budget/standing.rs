//! The headers that tell a caller its limits and what is left of them: `RateLimit-Policy` and `RateLimit` of
//! draft-ietf-httpapi-ratelimit-headers-10, in structured fields (RFC 9651).

use super::{
    limits::{Limits, daily_terms},
    purse::Purse,
};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use std::{
    fmt::Write,
    time::{Duration, Instant},
};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub(crate) const HEADERS: [HeaderName; 2] = [POLICY, LIMIT];

const DAY_S: u64 = 86_400;

/// `refused`: how long this request was told to wait, whatever has come in since then.
pub(super) fn describe(
    limits: &Limits,
    tokens: &Purse,
    refused: Option<Duration>,
    tasks: &Purse,
    headers: &mut HeaderMap,
) {
    let now = Instant::now();
    let (mut policy, mut standing) = (String::new(), String::new());
    if let Some(rate) = limits.rate {
        let (quota, window) = (rate.burst, rate.window());
        item(
            &mut policy,
            format_args!("\"default\";q={quota};w={window}"),
        );
        let nothing = refused.map(|wait| (0, wait));
        let left = nothing.or_else(|| tokens.standing(&rate.terms(), now));
        if let Some((left, more_in)) = left {
            let more_in = whole_seconds(more_in);
            item(
                &mut standing,
                format_args!("\"default\";r={left};t={more_in}"),
            );
        }
    }
    if let Some(daily) = limits.daily {
        // The draft's unit is requests; this one is ours.
        item(
            &mut policy,
            format_args!("\"daily\";q={daily};w={DAY_S};warren-unit=\"tasks\""),
        );
        if let Some((left, more_in)) = tasks.standing(&daily_terms(daily), now) {
            let more_in = whole_seconds(more_in);
            item(
                &mut standing,
                format_args!("\"daily\";r={left};t={more_in}"),
            );
        }
    }
    for (name, text) in [(POLICY, policy), (LIMIT, standing)] {
        if let Ok(value) = HeaderValue::try_from(text)
            && !value.is_empty()
        {
            headers.insert(name, value);
        }
    }
}

/// Rounded up, and 1 at least: who comes then is not too early.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

fn item(list: &mut String, item: std::fmt::Arguments<'_>) {
    if !list.is_empty() {
        list.push_str(", ");
    }
    // A String takes everything.
    let _written = list.write_fmt(item);
}
