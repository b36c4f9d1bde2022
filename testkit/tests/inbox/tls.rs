//! STARTTLS and implicit TLS, with a client that checks the certificate.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use testkit::inbox::Inbox;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::client::{Smtp, start};

async fn encrypt(
    inbox: &Inbox,
    stream: TcpStream,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(inbox.ca_pem().as_bytes()).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

#[tokio::test]
async fn starttls_encrypts_and_starts_anew() {
    let inbox = start();
    let mut plain = Smtp::ready(&inbox).await;
    // What an attacker slips in behind STARTTLS must not be taken for the client's words.
    plain
        .send("STARTTLS\r\nNOOP\r\nMAIL FROM:<evil@warren.test>\r\n")
        .await;
    plain.expect(220).await;
    let mut smtp = Smtp::over(encrypt(&inbox, plain.stream, "localhost").await.unwrap());
    smtp.ask("MAIL FROM:<a@warren.test>", 503).await;
    let reply = smtp.ask("EHLO client.test", 250).await;
    assert!(!reply.contains("STARTTLS"), "{reply}");
    smtp.ask("STARTTLS", 503).await;
    smtp.mail("a@warren.test", "secret").await;
    smtp.ask("QUIT", 221).await;
    smtp.expect_end().await;
    assert!(inbox.messages()[0].client.tls);
}

#[tokio::test]
async fn the_tls_port_greets_within_tls() {
    let inbox = start();
    let stream = TcpStream::connect(inbox.smtps_addr().unwrap())
        .await
        .unwrap();
    let mut smtp = Smtp::over(encrypt(&inbox, stream, "127.0.0.1").await.unwrap());
    smtp.expect(220).await;
    smtp.ask("EHLO client.test", 250).await;
    smtp.mail("a@warren.test", "secret").await;
    assert!(inbox.messages()[0].client.tls);
}

#[tokio::test]
async fn the_certificate_is_for_this_machine_only() {
    let inbox = start();
    let stream = TcpStream::connect(inbox.smtps_addr().unwrap())
        .await
        .unwrap();
    let error = encrypt(&inbox, stream, "relay.example").await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn a_plain_client_of_the_tls_port_does_no_harm() {
    let inbox = start();
    let mut smtp = Smtp::connect(inbox.smtps_addr().unwrap()).await;
    smtp.send("EHLO client.test\r\n").await;
    // An alert may come, but no SMTP.
    smtp.expect_no_smtp().await;
    Smtp::ready(&inbox).await.mail("a@warren.test", "").await;
}

impl Smtp {
    async fn expect_no_smtp(&mut self) {
        use tokio::io::AsyncReadExt as _;
        let mut rest = Vec::new();
        // A reset is fine as well.
        let _ = self.stream.read_to_end(&mut rest).await;
        assert!(!rest.starts_with(b"2"), "{rest:?}");
    }
}
