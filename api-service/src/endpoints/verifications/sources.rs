//! Who asks, and how often they may.

use crate::{
    app::AppState,
    auth::{Caller, Scope},
};
use actix_web::HttpRequest;
use std::net::IpAddr;

/// Whether the caller may know nothing of the recipient.
pub(in crate::endpoints) fn is_open(caller: &Caller) -> bool {
    !caller.scopes.allow(Scope::Submit)
}

/// Whom the request is for: as a trusted caller says, else who has sent it.
pub(in crate::endpoints) fn client_of(
    state: &AppState,
    caller: &Caller,
    request: &HttpRequest,
    said: Option<IpAddr>,
) -> Option<IpAddr> {
    if !is_open(caller) {
        return said;
    }
    let header = state.config.http.client_address_header.as_str();
    if header.is_empty() {
        return request.peer_addr().map(|peer| peer.ip());
    }
    // Who is before the proxy can write into all entries but the last.
    let value = request.headers().get_all(header).last()?;
    let last = value.to_str().ok()?.rsplit(',').next()?;
    last.trim().parse().ok()
}

/// Who is counted for the request, by names that begin with `what`, and how often each may ask in an hour.
pub(in crate::endpoints) fn sources(
    state: &AppState,
    caller: &Caller,
    client: Option<IpAddr>,
    what: &str,
) -> Vec<(String, u32)> {
    let policy = &state.config.verification;
    let most = if is_open(caller) {
        policy.max_per_open_key_hour
    } else {
        policy.max_per_key_hour
    };
    let key = (format!("{what}key {}", caller.key_id), most);
    let client = client.and_then(|address| {
        let pepper = state.suppressions.peppers().first()?;
        // A customer of IPv6 has a whole network of addresses.
        let network = match address.to_canonical() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("{:x?}", &address.segments()[..4]),
        };
        let mac = pepper.mac("client address", &[network.as_bytes()]);
        let mac = u128::from_be_bytes(mac[..16].try_into().ok()?);
        let name = format!("{what}client {mac:032x}");
        Some((name, policy.max_per_client_hour))
    });
    let all = [Some(key), client];
    all.into_iter()
        .flatten()
        .filter(|(_, most)| *most > 0)
        .collect()
}
