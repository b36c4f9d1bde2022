//! HTTP clients for tests and tools.

use reqwest::{Client, ClientBuilder};

/// A client to be, whatever proxy the machine is set to use. TLS, where there is any, is rustls with ring.
pub fn builder() -> ClientBuilder {
    // The first that is chosen in the process stays; all of ours are ring.
    let _chosen = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy()
}

/// A client that has nothing special.
///
/// # Panics
/// When none can be made.
pub fn client() -> Client {
    builder()
        .build()
        .unwrap_or_else(|error| panic!("no HTTP client: {error}"))
}
