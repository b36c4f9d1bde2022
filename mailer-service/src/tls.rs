//! TLS of a client: the system's certificate authorities, and those of a file besides.

use crate::setup::{SetupError, wrong};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use std::sync::Arc;

/// Reads the authorities; `key` is the configuration key of the file, which may be empty.
pub(crate) fn client_config(ca_file: &str, key: &str) -> Result<ClientConfig, SetupError> {
    let mut roots = RootCertStore::empty();
    // Some system certificates that rustls can't read are common and do no harm.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    add_file(&mut roots, ca_file, key)?;
    if roots.is_empty() {
        let detail = "is empty and this system has no certificate authorities: install ca-certificates or name a PEM file";
        return Err(wrong(key, detail));
    }
    Ok(
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(key, "is of no use: TLS can't be set up").caused_by(error))?
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
}

/// Adds the certificates of a PEM file; an empty name adds none.
pub(crate) fn add_file(roots: &mut RootCertStore, file: &str, key: &str) -> Result<(), SetupError> {
    if file.is_empty() {
        return Ok(());
    }
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
