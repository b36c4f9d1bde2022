//! Which headers a caller may set. The others say how the message is framed and where it goes, or would make one
//! endpoint believe something of the caller that only Warren or a proxy can say.

const LONGEST_VALUE: usize = 4096;

const REFUSED: [&str; 20] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "metadata",
    "metadata-flavor",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-real-ip",
    "x-metadata-token",
];

const REFUSED_BEGINNINGS: [&str; 5] = [
    "proxy-",
    "sec-",
    "webhook-",
    "x-aws-ec2-metadata-",
    "x-forwarded-",
];

/// Checks one header; the error says what to do.
pub(super) fn check(name: &str, value: &str) -> Result<(), &'static str> {
    // The characters of RFC 9110, 5.6.2.
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !(1..=64).contains(&name.len()) || !name.bytes().all(is_token) {
        return Err("the name must be 1 to 64 letters, digits and hyphens");
    }
    let lower = name.to_ascii_lowercase();
    if lower == "content-type" {
        return Err("use content_type instead");
    }
    if lower.starts_with("webhook-") {
        return Err("the signature is made by Warren; use sign instead");
    }
    if REFUSED.contains(&lower.as_str())
        || REFUSED_BEGINNINGS
            .iter()
            .any(|start| lower.starts_with(start))
    {
        return Err(
            "this header can't be set: it belongs to the connection, to proxies or to a metadata service",
        );
    }
    check_value(value)
}

pub(super) fn check_value(value: &str) -> Result<(), &'static str> {
    let is_visible = |b: u8| (0x20..0x7f).contains(&b);
    if value.len() > LONGEST_VALUE || !value.bytes().all(is_visible) || value.trim() != value {
        return Err(
            "the value must be at most 4096 visible ASCII characters, without spaces at its ends",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_endpoint_are_taken_and_those_of_the_way_refused() {
        for name in [
            "Authorization",
            "Accept",
            "X-Api-Key",
            "Idempotency-Key",
            "User-Agent",
            "Cookie",
        ] {
            assert_eq!(check(name, "x"), Ok(()), "{name}");
        }
        for name in [
            "Host",
            "HOST",
            "Content-Length",
            "Content-Type",
            "Transfer-Encoding",
            "TE",
            "Connection",
            "Upgrade",
            "Keep-Alive",
            "Proxy-Authorization",
            "Expect",
            "Webhook-Id",
            "webhook-signature",
            "X-Forwarded-For",
            "Forwarded",
            "Metadata-Flavor",
            "Metadata",
            "X-aws-ec2-metadata-token",
            "Accept-Encoding",
            "",
            "a b",
            "a:",
        ] {
            assert!(check(name, "x").is_err(), "{name}");
        }
        for value in ["a\r\nX: y", "a\0", "ä", " a", "a\t"] {
            assert!(check("X-A", value).is_err(), "{value:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_accepted_can_end_a_line(name in "[\\PC\r\n]{0,20}", value in "[\\PC\r\n\0]{0,20}") {
            if check(&name, &value).is_ok() {
                proptest::prop_assert!(![name, value].concat().contains(|c: char| c.is_control()));
            }
        }
    }
}
