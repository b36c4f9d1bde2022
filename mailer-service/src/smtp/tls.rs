//! TLS towards a relay: the system's certificate authorities, those of `ca_file` besides, and the
//! relay's configured name, which its certificate must carry (RFC 8314, RFC 6125).

use super::settings::{SetupError, wrong};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
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
        let mut roots = RootCertStore::empty();
        // Some system certificates that rustls can't read are common and do no harm.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if !ca_file.is_empty() {
            add_file(&mut roots, ca_file, &key("ca_file"))?;
        }
        if roots.is_empty() {
            let detail = "is empty and this system has no certificate authorities: install ca-certificates or name a PEM file";
            return Err(wrong(key("ca_file"), detail));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(key("tls"), "can't be set up").caused_by(error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name,
        })
    }

    pub(super) async fn handshake(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), tcp).await
    }
}

fn add_file(roots: &mut RootCertStore, file: &str, key: &str) -> Result<(), SetupError> {
    let unreadable =
        |error| wrong(key, format!("can't be read as a PEM file: {file}")).caused_by(error);
    let mut found = false;
    for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
        let certificate = certificate.map_err(unreadable)?;
        roots.add(certificate).map_err(|error| {
            wrong(
                key,
                format!("holds a certificate that is not usable: {file}"),
            )
            .caused_by(error)
        })?;
        found = true;
    }
    if found {
        Ok(())
    } else {
        Err(wrong(key, format!("holds no certificate: {file}")))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.name).finish()
    }
}
