//! Which endpoints may be called. A caller's URL makes Warren speak from inside the operator's network, so whatever
//! is not public is refused unless the configuration names it (server-side request forgery, CWE-918).

use super::{
    allow::Allowed,
    class::{Class, classify},
    url::EndpointUrl,
};
use crate::config::{self, ConfigError};
use std::net::IpAddr;
use url::Host;

/// The default guard lets public addresses through, by https alone, on every port.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allow: Vec<Allowed>,
    /// Empty: every port.
    ports: Vec<u16>,
    allow_http: bool,
}

/// Why an endpoint is not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("leads to {0}, and outbound.allow does not name it")]
    Address(Class),
    #[error("has port {0}, which is not among outbound.ports")]
    Port(u16),
    #[error(
        "must begin with https://, since outbound.allow_http is off and outbound.allow does not name the host"
    )]
    PlainHttp,
}

impl Guard {
    pub fn new(outbound: &config::Outbound) -> Result<Self, ConfigError> {
        let entry = |text: &String| {
            text.parse().map_err(|error: super::allow::NotAllowable| {
                ConfigError::value("outbound.allow", error.to_string())
            })
        };
        Ok(Self {
            allow: outbound.allow.iter().map(entry).collect::<Result<_, _>>()?,
            ports: outbound.ports.clone(),
            allow_http: outbound.allow_http,
        })
    }

    /// What can be told of a URL before its name is looked up. The addresses decide, by
    /// [`check_address`](Self::check_address), each time a connection is made.
    pub fn check_url(&self, url: &EndpointUrl) -> Result<(), Refusal> {
        match url.host() {
            Host::Ipv4(address) => self.check_address(url, address.into()).map(drop),
            Host::Ipv6(address) => self.check_address(url, address.into()).map(drop),
            Host::Domain(name) => {
                // The name may turn out to lie in an allowed network.
                let may_be_allowed = self
                    .allow
                    .iter()
                    .any(|one| one.is_port(url.port()) && (one.is_net() || one.is_host(name)));
                if may_be_allowed {
                    Ok(())
                } else {
                    self.check_public(url)
                }
            }
        }
    }

    /// Whether a request to the URL may go to that address, and the address to connect to.
    pub fn check_address(&self, url: &EndpointUrl, address: IpAddr) -> Result<IpAddr, Refusal> {
        let address = address.to_canonical();
        let class = classify(address);
        let is_named = |one: &Allowed| match url.host() {
            // Whoever runs an allowed name's DNS must not be able to point it there.
            Host::Domain(name) if one.is_host(name) => class != Class::Metadata,
            _ => one.holds(address),
        };
        if self
            .allow
            .iter()
            .any(|one| one.is_port(url.port()) && is_named(one))
        {
            return Ok(address);
        }
        if class != Class::Public {
            return Err(Refusal::Address(class));
        }
        self.check_public(url)?;
        Ok(address)
    }

    fn check_public(&self, url: &EndpointUrl) -> Result<(), Refusal> {
        if !url.is_https() && !self.allow_http {
            return Err(Refusal::PlainHttp);
        }
        if !self.ports.is_empty() && !self.ports.contains(&url.port()) {
            return Err(Refusal::Port(url.port()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn guard(allow: &str, allow_http: bool) -> Guard {
        let http = allow_http.to_string();
        let config = Config::with(&[("outbound.allow", allow), ("outbound.allow_http", &http)]);
        Guard::new(&config.unwrap().outbound).unwrap()
    }

    fn url(text: &str) -> EndpointUrl {
        EndpointUrl::parse(text).unwrap()
    }

    fn at(guard: &Guard, text: &str, address: &str) -> Result<IpAddr, Refusal> {
        guard.check_address(&url(text), address.parse().unwrap())
    }

    #[test]
    fn literal_addresses_are_judged_at_once() {
        let guard = guard("", true);
        for (text, class) in [
            ("http://127.0.0.1/", Class::Loopback),
            ("http://2130706433/", Class::Loopback),
            ("http://0x7f.1/", Class::Loopback),
            ("http://[::1]/", Class::Loopback),
            ("http://[::ffff:127.0.0.1]/", Class::Loopback),
            ("http://[64:ff9b::10.0.0.1]/", Class::Private),
            ("http://[::127.0.0.1]/", Class::Reserved),
            ("http://[2002:7f00:1::]/", Class::Tunnel),
            ("http://0/", Class::Unspecified),
            ("http://169.254.169.254/latest/meta-data/", Class::Metadata),
            ("http://192.168.1.1:8080/", Class::Private),
        ] {
            assert_eq!(
                guard.check_url(&url(text)),
                Err(Refusal::Address(class)),
                "{text}"
            );
        }
        assert_eq!(guard.check_url(&url("http://93.184.215.14/")), Ok(()));
        assert_eq!(guard.check_url(&url("http://example.com/")), Ok(()));
    }

    #[test]
    fn what_a_name_leads_to_decides() {
        let guard = guard("", false);
        let text = "https://example.com/";
        assert_eq!(guard.check_url(&url(text)), Ok(()));
        assert!(at(&guard, text, "93.184.215.14").is_ok());
        assert_eq!(
            at(&guard, text, "127.0.0.1"),
            Err(Refusal::Address(Class::Loopback))
        );
        // A mapped address is connected to as what it is.
        assert_eq!(
            at(&guard, text, "::ffff:93.184.215.14"),
            Ok("93.184.215.14".parse().unwrap())
        );
    }

    #[test]
    fn plain_http_and_odd_ports_are_for_what_is_named() {
        let strict = guard("10.1.0.0/16, billing.internal:9000", false);
        let odd = "http://billing.internal:9000/";
        assert_eq!(strict.check_url(&url(odd)), Ok(()));
        assert!(at(&strict, odd, "192.168.0.1").is_ok());
        assert_eq!(
            at(&strict, "http://billing.internal:9001/", "192.168.0.1"),
            Err(Refusal::Address(Class::Private))
        );
        assert!(at(&strict, "http://other.internal:6000/", "10.1.2.3").is_ok());
        assert_eq!(
            at(&strict, "http://other.example/", "93.184.215.14"),
            Err(Refusal::PlainHttp)
        );
        assert_eq!(
            at(&strict, "https://other.example:6000/", "93.184.215.14"),
            Err(Refusal::Port(6000))
        );
        // Without a network in the list, a name says enough.
        let names = guard("billing.internal", false);
        assert_eq!(
            names.check_url(&url("http://example.com/")),
            Err(Refusal::PlainHttp)
        );
        assert_eq!(
            names.check_url(&url("https://example.com:25/")),
            Err(Refusal::Port(25))
        );
    }

    #[test]
    fn an_allowed_name_does_not_lead_to_metadata() {
        let guard = guard("billing.internal, 169.254.0.0/16", false);
        for address in ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254"] {
            assert_eq!(
                at(&guard, "https://billing.internal/", address),
                Err(Refusal::Address(Class::Metadata)),
                "{address}"
            );
        }
        assert!(at(&guard, "https://billing.internal/", "127.0.0.1").is_ok());
    }
}
