//! Opens connections to addresses that the guard lets through, and to no others: the name is looked up here, each
//! address of the answer is judged, and the connection is made to that very address, so that a name that changes its
//! mind in between (DNS rebinding) gains nothing. No proxy is used, whatever the environment says.

use super::{
    error::{CallError, Class, code},
    resolve::Resolve,
};
use crate::tls;
use http_body_util::Full;
use hyper::{
    body::Bytes,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use shared::outbound::{EndpointUrl, Guard, Host};
use std::{io, net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::OnceCell,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// The most bytes of an answer's head, and of its header fields.
const HEAD_BYTES: usize = 64 * 1024;
const HEAD_FIELDS: usize = 100;

/// What has gone wrong with our own TLS is mended by people.
const SETUP_WAIT: Duration = Duration::from_secs(300);

pub(super) struct Connector {
    pub(super) guard: Guard,
    pub(super) resolver: Box<dyn Resolve>,
    pub(super) ca_file: String,
    pub(super) connect_timeout: Duration,
    /// Made by the first call that needs it: the authorities take memory.
    pub(super) tls: OnceCell<TlsConnector>,
}

/// One HTTP/1.1 connection. Dropping it closes it at once, whatever the other side does.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Full<Bytes>>,
    _task: AbortOnDropHandle<()>,
    _open: Open,
}

impl Connector {
    /// A new connection for a request to the URL.
    pub(super) async fn connect(
        &self,
        url: &EndpointUrl,
        deadline: Instant,
    ) -> Result<Connection, CallError> {
        let until = deadline.min(Instant::now() + self.connect_timeout);
        timeout_at(until, self.establish(url, until))
            .await
            .unwrap_or_else(|_| {
                let what = "no connection could be made in time";
                Err(CallError::at(url, Class::Retry, code::CONNECT, what))
            })
    }

    async fn establish(&self, url: &EndpointUrl, until: Instant) -> Result<Connection, CallError> {
        let addresses = self.addresses(url).await?;
        let tcp = dial(&addresses, url.port(), until).await.map_err(|error| {
            let what = format!("no connection could be made: {}", error.kind());
            CallError::at(url, Class::Retry, code::CONNECT, &what).caused_by(error)
        })?;
        let opened = if url.is_https() {
            speak(self.encrypt(url, tcp).await?).await
        } else {
            speak(tcp).await
        };
        opened.map_err(|error| {
            CallError::at(
                url,
                Class::Retry,
                code::CONNECT,
                "the connection broke at once",
            )
            .caused_by(error)
        })
    }

    /// The addresses that may be called. Those that may not are left out; when none is left, the first refusal counts.
    async fn addresses(&self, url: &EndpointUrl) -> Result<Vec<IpAddr>, CallError> {
        let found = match url.host() {
            Host::Ipv4(address) => vec![address.into()],
            Host::Ipv6(address) => vec![address.into()],
            Host::Domain(name) => {
                self.resolver
                    .resolve(name.to_owned())
                    .await
                    .map_err(|error| {
                        CallError::at(
                            url,
                            Class::Retry,
                            code::DNS,
                            "the name could not be looked up",
                        )
                        .caused_by(error)
                    })?
            }
        };
        let mut refusal = None;
        let mut allowed = Vec::with_capacity(found.len());
        for address in found {
            match self.guard.check_address(url, address) {
                Ok(address) => allowed.push(address),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        match refusal {
            Some(refusal) if allowed.is_empty() => Err(CallError::refused(url, refusal)),
            None if allowed.is_empty() => Err(CallError::at(
                url,
                Class::Retry,
                code::DNS,
                "the name has no address",
            )),
            _ => Ok(allowed),
        }
    }

    async fn encrypt(
        &self,
        url: &EndpointUrl,
        tcp: TcpStream,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static, CallError> {
        let name = match url.host() {
            Host::Ipv4(address) => ServerName::from(IpAddr::from(address)),
            Host::Ipv6(address) => ServerName::from(IpAddr::from(address)),
            Host::Domain(name) => ServerName::try_from(name.to_owned()).map_err(|error| {
                CallError::at(
                    url,
                    Class::Fail,
                    code::TLS,
                    "no certificate can carry that name",
                )
                .caused_by(error)
            })?,
        };
        let connector = self.tls.get_or_try_init(|| self.authorities()).await?;
        connector.connect(name, tcp).await.map_err(|error| {
            CallError::at(url, Class::Retry, code::TLS, &describe(&error)).caused_by(error)
        })
    }

    async fn authorities(&self) -> Result<TlsConnector, CallError> {
        let ca_file = self.ca_file.clone();
        let read = move || tls::client_config(&ca_file, "outbound.ca_file");
        let wrong = |error: Box<dyn std::error::Error + Send + Sync>| {
            tracing::error!(
                error = &*error as &dyn std::error::Error,
                "no TLS for outbound calls"
            );
            let text = "this worker's certificate authorities can't be read; its log says why";
            CallError::new(Class::RetryAfter(SETUP_WAIT), code::TLS, text).caused_by(error)
        };
        let mut config = tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| wrong(error.into()))?
            .map_err(|error| wrong(error.into()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// The first address that answers. Each has its share of the time that is left.
async fn dial(addresses: &[IpAddr], port: u16, until: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (tried, address) in addresses.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1);
        match timeout(share, TcpStream::connect((*address, port))).await {
            Ok(Ok(tcp)) => {
                tcp.set_nodelay(true)?;
                return Ok(tcp);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

async fn speak<S>(stream: S) -> hyper::Result<Connection>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .handshake(TokioIo::new(stream))
        .await?;
    let task = tokio::spawn(async move {
        // Whoever waits for an answer on it hears of the error.
        if let Err(error) = connection.await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "an outbound connection ended"
            );
        }
    });
    Ok(Connection {
        sender,
        _task: AbortOnDropHandle::new(task),
        _open: Open::begin(),
    })
}

/// What rustls says of a certificate or handshake, else the kind of I/O error.
fn describe(error: &io::Error) -> String {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let text = tls.map_or_else(|| error.kind().to_string(), ToString::to_string);
    format!(
        "no TLS connection: {}",
        text.chars().take(200).collect::<String>()
    )
}

/// Counts a connection while it lives.
struct Open;

impl Open {
    fn begin() -> Self {
        metrics::counter!("warren_outbound_connections_total").increment(1);
        metrics::gauge!("warren_outbound_connections_open").increment(1);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!("warren_outbound_connections_open").decrement(1);
    }
}
