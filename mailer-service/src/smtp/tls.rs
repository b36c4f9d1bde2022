//! TLS towards a relay, under its configured name, which its certificate must carry (RFC 8314, RFC 6125).

use crate::{
    setup::{SetupError, wrong},
    tls,
};
use rustls::pki_types::ServerName;
use std::{fmt, io, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

#[derive(Clone)]
pub(super) struct Client {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Client {
    /// `key` gives the name of a configuration key of this relay.
    pub(super) fn new(
        host: &str,
        ca_file: &str,
        key: impl Fn(&str) -> String,
    ) -> Result<Self, SetupError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| {
            wrong(key("host"), "must be a host name or an IP address").caused_by(error)
        })?;
        let config = tls::client_config(ca_file, &key("ca_file"))?;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name,
        })
    }

    pub(super) async fn handshake(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), tcp).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.name).finish()
    }
}
