//! What `outbound.allow` names: hosts, addresses and networks that may be called although they are not public.

use super::class::{Class, classify};
use ipnet::IpNet;
use std::{net::IpAddr, str::FromStr};

/// `billing.internal`, `10.1.2.3`, `10.0.0.0/8` or `fd00::/8`, each also with a port: `10.1.2.3:8080`, `[fd00::1]:8080`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Allowed {
    what: What,
    /// None: every port.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Host(String),
    Net(IpNet),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must hold host names, addresses or networks such as 10.0.0.0/8, each with or without :port"
)]
pub(super) struct NotAllowable;

impl Allowed {
    pub(super) fn is_port(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }

    pub(super) fn is_host(&self, name: &str) -> bool {
        matches!(&self.what, What::Host(host) if host == name)
    }

    pub(super) fn is_net(&self) -> bool {
        matches!(self.what, What::Net(_))
    }

    /// A metadata service must be named by its very address: a network around it is not meant to hold it.
    pub(super) fn holds(&self, address: IpAddr) -> bool {
        let What::Net(net) = self.what else {
            return false;
        };
        let is_alone = net.prefix_len() == net.max_prefix_len();
        net.contains(&address) && (is_alone || classify(address) != Class::Metadata)
    }
}

impl FromStr for Allowed {
    type Err = NotAllowable;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (what, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (what, rest) = rest.split_once(']').ok_or(NotAllowable)?;
                let port = match rest {
                    "" => None,
                    rest => Some(rest.strip_prefix(':').ok_or(NotAllowable)?),
                };
                (what, port)
            }
            None => match text.split_once(':') {
                Some((what, port)) if !port.contains(':') => (what, Some(port)),
                _ => (text, None),
            },
        };
        let port = port.map(str::parse).transpose().map_err(|_| NotAllowable)?;
        Ok(Self {
            what: What::parse(what)?,
            port,
        })
    }
}

impl What {
    fn parse(text: &str) -> Result<Self, NotAllowable> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Net(address.to_canonical().into()));
        }
        if let Ok(net) = text.parse::<IpNet>() {
            return Ok(Self::Net(net.trunc()));
        }
        // As the host of a URL is written, so that both compare.
        match url::Host::parse(text) {
            Ok(url::Host::Domain(name)) if !name.contains('*') => {
                Ok(Self::Host(name.trim_end_matches('.').to_owned()))
            }
            _ => Err(NotAllowable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str) -> Allowed {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_is_read() {
        assert!(allowed("Billing.Internal.").is_host("billing.internal"));
        assert!(!allowed("billing.internal").is_host("x.billing.internal"));
        assert!(allowed("billing.internal:80").is_port(80));
        assert!(!allowed("billing.internal:80").is_port(81));
        for (text, inside, outside) in [
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("10.9.9.9/8:80", "10.255.0.1", "11.0.0.1"),
            ("fd00::/8", "fd12::1", "fe80::1"),
            ("[fd00::1]", "fd00::1", "fd00::2"),
            ("[fd00::/16]:8080", "fd00:1::", "fd01::"),
            ("::1", "::1", "::"),
        ] {
            assert!(allowed(text).holds(inside.parse().unwrap()), "{text}");
            assert!(!allowed(text).holds(outside.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_metadata_service_is_named_or_not_meant() {
        let metadata = "169.254.169.254".parse().unwrap();
        assert!(!allowed("169.254.0.0/16").holds(metadata));
        assert!(!allowed("0.0.0.0/0").holds(metadata));
        assert!(allowed("169.254.169.254").holds(metadata));
        assert!(allowed("169.254.169.254/32").holds(metadata));
    }

    #[test]
    fn nothing_else_is_read() {
        for text in [
            "",
            "*",
            "*.internal",
            "10.0.0.0/33",
            "a:b",
            "a:99999",
            "[::1",
            "[::1]x",
            "http://a",
            "a b",
        ] {
            assert_eq!(text.parse::<Allowed>(), Err(NotAllowable), "{text}");
        }
    }
}
