//! The URL of somebody's endpoint, parsed once. What this type holds has http or https as its scheme, a host, and
//! no user name or password.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use url::{Host, Url};

#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl(Url);

/// Why a text is no URL that we call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("must be an absolute URL such as https://example.com/hook, without spaces")]
    Form,
    #[error("must begin with https:// or http://")]
    Scheme,
    #[error("must not hold a user name or password")]
    UserInfo,
    #[error("must name a host")]
    Host,
}

impl EndpointUrl {
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        // The parser would drop line breaks without a word.
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(UrlError::Form);
        }
        Self::checked(Url::parse(text).map_err(|_| UrlError::Form)?)
    }

    fn checked(mut url: Url) -> Result<Self, UrlError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(UrlError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::UserInfo);
        }
        if url
            .host_str()
            .is_none_or(|host| host.trim_end_matches('.').is_empty())
        {
            return Err(UrlError::Host);
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// Where a `Location` header leads from here.
    pub fn join(&self, location: &str) -> Result<Self, UrlError> {
        Self::checked(self.0.join(location).map_err(|_| UrlError::Form)?)
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Lower case, in ASCII; a number in any notation has become the address it stands for.
    pub fn host(&self) -> Host<&str> {
        match self.0.host() {
            Some(Host::Domain(name)) => Host::Domain(name.strip_suffix('.').unwrap_or(name)),
            Some(address) => address,
            None => Host::Domain(""),
        }
    }

    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(0)
    }

    /// Host and port as the `Host` header has them: without the scheme's own port.
    pub fn authority(&self) -> &str {
        self.0.authority()
    }

    pub fn path_and_query(&self) -> &str {
        &self.0[url::Position::BeforePath..url::Position::AfterQuery]
    }

    /// Scheme, host and port, e.g. `https://example.com`.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }
}

/// Paths and queries hold secrets and names of people, so only the host prints.
impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/…", self.0.scheme(), self.authority())
    }
}

impl Serialize for EndpointUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EndpointUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_is_what_was_meant() {
        for (text, error) in [
            ("example.com/hook", UrlError::Form),
            ("/hook", UrlError::Form),
            ("https://", UrlError::Form),
            ("https://./", UrlError::Host),
            ("https://exam\nple.com/", UrlError::Form),
            (" https://example.com/", UrlError::Form),
            ("https://example.com:99999/", UrlError::Form),
            ("ftp://example.com/", UrlError::Scheme),
            ("file:///etc/passwd", UrlError::Scheme),
            ("gopher://127.0.0.1:6379/_x", UrlError::Scheme),
            ("https://ada@example.com/", UrlError::UserInfo),
            ("https://:secret@example.com/", UrlError::UserInfo),
        ] {
            assert_eq!(EndpointUrl::parse(text), Err(error), "{text}");
        }
        // A backslash is a slash to every browser, so what follows it is no host.
        let url = EndpointUrl::parse("https://example.com\\@127.0.0.1/").unwrap();
        assert_eq!(url.host(), Host::Domain("example.com"));
    }

    #[test]
    fn every_notation_of_an_address_is_that_address() {
        for text in [
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://0177.0.0.01/",
            "http://127.1/",
            "http://127.0.0.1./",
            "http://１２７.0.0.1/",
        ] {
            let host = EndpointUrl::parse(text).unwrap().host().to_owned();
            assert_eq!(host, Host::<String>::Ipv4([127, 0, 0, 1].into()), "{text}");
        }
    }

    #[test]
    fn the_parts_of_a_request() {
        let url = EndpointUrl::parse("HTTPS://Example.COM.:443/a%20b?q=1#part").unwrap();
        assert_eq!(url.host(), Host::Domain("example.com"));
        assert_eq!((url.port(), url.authority()), (443, "example.com."));
        assert_eq!(url.path_and_query(), "/a%20b?q=1");
        assert_eq!(format!("{url:?}"), "https://example.com./…");
        let next = url.join("//other.example:8443/x").unwrap();
        assert_eq!(next.authority(), "other.example:8443");
        assert!(next.is_https() && next.origin() != url.origin());
        assert_eq!(url.join("/y").unwrap().origin(), url.origin());
        assert_eq!(url.join("javascript:alert(1)"), Err(UrlError::Scheme));
    }
}
