//! The stream under lettre's SMTP client, shared with us by a handle, since lettre keeps its own stream
//! to itself. Knowing the stream we can do what lettre 0.11 can't:
//!
//! - bytes leave at the next read, so that the mail and its final dot are one segment;
//! - STARTTLS happens here, and only if the relay said nothing after its reply: lettre would take
//!   plain-text bytes that somebody put behind it for replies under TLS (CVE-2011-0411);
//! - what was heard since the last write is kept: EHLO's parameters and odd replies are read from it;
//! - bytes beyond ASCII in replies become `?`, else lettre takes a relay's Latin-1 text for a broken
//!   connection, and a mail that was taken for one of unknown outcome;
//! - an idle connection is looked at without a round trip.

use super::tls;
use lettre::transport::smtp::client::AsyncTokioStream;
use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// Bytes gathered before they are sent without waiting for a read.
const GATHER: usize = 32 * 1024;

/// Bytes kept of what was heard; far more than an EHLO reply.
const HEARD: usize = 16 * 1024;

struct Wire {
    io: Io,
    peer: SocketAddr,
    out: Vec<u8>,
    sent: usize,
    flushed: bool,
    heard: Vec<u8>,
    ended: bool,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// A handshake is under way, or failed.
    Gone,
}

/// A handle to the stream; one is lettre's, one is ours. They are never used at the same time.
#[derive(Clone)]
pub(super) struct WireHandle(Arc<Mutex<Wire>>);

impl WireHandle {
    pub(super) fn new(tcp: TcpStream, peer: SocketAddr) -> Self {
        Self(Arc::new(Mutex::new(Wire {
            io: Io::Plain(tcp),
            peer,
            out: Vec::new(),
            sent: 0,
            flushed: true,
            heard: Vec::new(),
            ended: false,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts TLS round the stream before anything was said on it.
    pub(super) async fn start_tls_at_once(&self, client: &tls::Client) -> io::Result<()> {
        let tcp = match std::mem::replace(&mut self.lock().io, Io::Gone) {
            Io::Plain(tcp) => tcp,
            Io::Tls(_) | Io::Gone => return Err(io::Error::other("TLS was started before")),
        };
        let tls = client.handshake(tcp).await?;
        self.lock().io = Io::Tls(Box::new(tls));
        Ok(())
    }

    /// Puts TLS round the stream after STARTTLS. Fails unless the relay has said one line since our last write.
    pub(super) async fn start_tls(&self, client: &tls::Client) -> io::Result<()> {
        {
            let wire = self.lock();
            let one_line = wire
                .heard
                .iter()
                .position(|byte| *byte == b'\n')
                .is_some_and(|end| end + 1 == wire.heard.len());
            if !one_line || !wire.out.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the relay sent more than its reply to STARTTLS",
                ));
            }
        }
        self.start_tls_at_once(client).await
    }

    /// Whether the relay has neither said anything nor hung up. Costs no round trip.
    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0; 1];
        let mut cx = Context::from_waker(Waker::noop());
        let mut wire = self.lock();
        !wire.ended
            && Pin::new(&mut wire.io)
                .poll_read(&mut cx, &mut ReadBuf::new(&mut byte))
                .is_pending()
    }

    /// Whether bytes that were written have not all been handed to the network stack.
    pub(super) fn has_unsent(&self) -> bool {
        !self.lock().out.is_empty()
    }

    /// Whether the relay has hung up.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// What the relay has said since our last write.
    pub(super) fn with_heard<T>(&self, read: impl FnOnce(&[u8]) -> T) -> T {
        read(&self.lock().heard)
    }
}

impl Wire {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.out[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
        }
        self.out.clear();
        self.sent = 0;
        if !self.flushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn hear(&mut self, new: &mut [u8]) {
        for byte in new.iter_mut().filter(|byte| !byte.is_ascii()) {
            *byte = b'?';
        }
        let room = HEARD.saturating_sub(self.heard.len()).min(new.len());
        self.heard.extend_from_slice(&new[..room]);
        self.ended |= new.is_empty();
    }
}

impl AsyncRead for WireHandle {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut wire = self.lock();
        ready!(wire.poll_send(cx))?;
        let before = buf.filled().len();
        ready!(Pin::new(&mut wire.io).poll_read(cx, buf))?;
        wire.hear(&mut buf.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WireHandle {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.lock();
        wire.heard.clear();
        if wire.out.len() + bytes.len() > GATHER {
            ready!(wire.poll_send(cx))?;
        }
        wire.flushed = false;
        if bytes.len() > GATHER {
            // Large mails are not copied once more.
            return Pin::new(&mut wire.io).poll_write(cx, bytes);
        }
        wire.out.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    /// Does nothing: commands and replies alternate, so the next read sends.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.lock();
        ready!(wire.poll_send(cx))?;
        Pin::new(&mut wire.io).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for WireHandle {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.lock().peer)
    }
}

impl fmt::Debug for WireHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WireHandle")
            .field(&self.lock().peer)
            .finish()
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}
