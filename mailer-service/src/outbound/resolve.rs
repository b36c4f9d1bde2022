//! From a name to addresses. Each connection asks once, and goes to an address of that answer.

use futures_util::future::BoxFuture;
use std::{
    io,
    net::{IpAddr, ToSocketAddrs as _},
    sync::Arc,
};
use tokio::sync::Semaphore;

/// More addresses of one name are not tried.
const MOST_ADDRESSES: usize = 8;

pub trait Resolve: Send + Sync {
    fn resolve(&self, name: String) -> BoxFuture<'_, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver, which takes a thread for each look-up.
pub(super) struct System {
    lookups: Arc<Semaphore>,
}

impl System {
    pub(super) fn new(most: usize) -> Self {
        Self {
            lookups: Arc::new(Semaphore::new(most)),
        }
    }
}

impl Resolve for System {
    fn resolve(&self, name: String) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        let lookups = Arc::clone(&self.lookups);
        Box::pin(async move {
            let place = lookups.acquire_owned().await.map_err(io::Error::other)?;
            let look = move || {
                // A look-up that nobody waits for any more still has its thread, so it keeps its place.
                let _place = place;
                let addresses = (name.as_str(), 0).to_socket_addrs()?;
                Ok(in_turns(addresses.map(|address| address.ip()).collect()))
            };
            tokio::task::spawn_blocking(look)
                .await
                .map_err(io::Error::other)?
        })
    }
}

/// The families in turns, so that a dead one costs little (RFC 8305, 4).
fn in_turns(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let longest = first.len().max(second.len());
    let mut all = Vec::with_capacity(first.len() + second.len());
    for i in 0..longest {
        all.extend(first.get(i).into_iter().chain(second.get(i)));
    }
    all.truncate(MOST_ADDRESSES);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let given = ["::1", "::2", "::3", "10.0.0.1"].map(|text| text.parse().unwrap());
        let shown: Vec<_> = in_turns(given.into())
            .iter()
            .map(IpAddr::to_string)
            .collect();
        assert_eq!(shown.join(" "), "::1 10.0.0.1 ::2 ::3");
        assert_eq!(in_turns(vec![given[0]; 20]).len(), MOST_ADDRESSES);
    }

    #[tokio::test]
    async fn the_system_knows_localhost() {
        let found = System::new(1).resolve("localhost".into()).await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty());
    }
}
