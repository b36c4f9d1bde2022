//! Where a redirect leads, and what of the request goes along (RFC 9110, 15.4; Fetch, 4.4). Nothing is followed here:
//! each hop is judged as the first one was.

use super::error::{CallError, Class, code};
use hyper::{
    Method, StatusCode,
    header::{HeaderMap, LOCATION},
};
use shared::outbound::EndpointUrl;

/// One request of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) url: EndpointUrl,
    pub(super) method: Method,
    pub(super) has_body: bool,
    /// Still at the origin that the caller named. Once left, it is not trusted again: whoever redirects back here
    /// chooses what is asked.
    pub(super) is_home: bool,
}

/// Whether an answer asks for another request.
pub fn is_redirect(status: StatusCode, headers: &HeaderMap) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) && headers.contains_key(LOCATION)
}

/// The next request.
pub(super) fn next(hop: &Hop, status: StatusCode, headers: &HeaderMap) -> Result<Hop, CallError> {
    let wrong = |what: &str| CallError::at(&hop.url, Class::Fail, code::REDIRECT, what);
    let location = headers
        .get(LOCATION)
        .and_then(|location| location.to_str().ok())
        .ok_or_else(|| wrong("the redirect says where to in no way that can be read"))?;
    let url = hop.url.join(location).map_err(|error| {
        wrong(&format!(
            "the redirect leads to no URL that is called: it {error}"
        ))
    })?;
    if hop.url.is_https() && !url.is_https() {
        return Err(wrong("the redirect leads from https to http"));
    }
    let becomes_get = match status.as_u16() {
        301 | 302 => hop.method == Method::POST,
        303 => hop.method != Method::GET,
        _ => false,
    };
    Ok(Hop {
        method: if becomes_get {
            Method::GET
        } else {
            hop.method.clone()
        },
        has_body: hop.has_body && !becomes_get,
        is_home: hop.is_home && url.origin() == hop.url.origin(),
        url,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(method: Method) -> Hop {
        Hop {
            url: EndpointUrl::parse("https://a.example/x").unwrap(),
            has_body: method != Method::GET,
            method,
            is_home: true,
        }
    }

    fn follow(hop: &Hop, status: u16, location: &str) -> Result<Hop, CallError> {
        let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
        let status = StatusCode::from_u16(status).unwrap();
        assert!(is_redirect(status, &headers));
        next(hop, status, &headers)
    }

    #[test]
    fn the_method_changes_as_in_browsers() {
        for (status, method, after) in [
            (301, Method::POST, Method::GET),
            (302, Method::POST, Method::GET),
            (302, Method::PUT, Method::PUT),
            (303, Method::PUT, Method::GET),
            (307, Method::POST, Method::POST),
            (308, Method::PATCH, Method::PATCH),
        ] {
            let next = follow(&hop(method), status, "/y").unwrap();
            assert_eq!(
                (next.has_body, next.method),
                (after != Method::GET, after.clone())
            );
            assert_eq!(next.url.as_str(), "https://a.example/y");
            assert!(next.is_home);
        }
    }

    #[test]
    fn a_left_origin_stays_left() {
        for away in [
            "https://b.example/",
            "https://a.example:444/",
            "//b.a.example/",
        ] {
            let there = follow(&hop(Method::POST), 307, away).unwrap();
            assert!(!there.is_home, "{away}");
            assert!(!follow(&there, 307, "https://a.example/x").unwrap().is_home);
        }
    }

    #[test]
    fn some_are_not_followed() {
        for location in [
            "http://a.example/",
            "ftp://a.example/",
            "https://u:p@a.example/",
            "https://",
            "javascript:x",
        ] {
            let error = follow(&hop(Method::GET), 302, location).unwrap_err();
            assert_eq!(
                (error.code, error.class),
                ("http_redirect", Class::Fail),
                "{location}"
            );
            assert!(!error.text.contains("u:p"), "{error}");
        }
        assert!(!is_redirect(StatusCode::FOUND, &HeaderMap::new()));
        assert!(!is_redirect(StatusCode::NOT_MODIFIED, &HeaderMap::new()));
    }
}
