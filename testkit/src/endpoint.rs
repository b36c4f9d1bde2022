//! Somebody else's HTTP endpoint: it remembers what it was asked, and answers as it is told, also in the ways in which
//! endpoints fail.
//!
//! It reads requests by itself (`httparse`), so that what a test sees is what was on the wire.

mod connection;

use crate::tls::Identity;
use anyhow::Context as _;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// A running endpoint; it ends when it is dropped.
pub struct Endpoint {
    shared: Arc<Shared>,
    address: SocketAddr,
    ca_pem: Option<String>,
    _task: AbortOnDropHandle<()>,
}

/// What it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Which of its connections it came over, from 1.
    pub connection: usize,
}

impl Request {
    /// The value of a header.
    ///
    /// # Panics
    /// When it came twice, since it should not have.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(own, _)| own == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} came twice: {self:?}");
        value
    }
}

/// What it does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// Sends these bytes as they are and closes.
    Raw(Vec<u8>),
    /// Sends a head and then a body that never ends.
    Endless,
    /// Reads the request and says nothing until the other side is gone.
    Silence,
    /// Answers, and closes the connection without having said so.
    AnswerAndClose(u16),
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self::Answer {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// 200 with a body.
    pub fn body(body: impl Into<Vec<u8>>) -> Self {
        Self::Answer {
            status: 200,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// The same with a header.
    ///
    /// # Panics
    /// On a reply without headers.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let Self::Answer { headers, .. } = &mut self else {
            panic!("{self:?} has no headers");
        };
        headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<Request>>,
    replies: Mutex<VecDeque<Reply>>,
    connections: Mutex<usize>,
}

impl Shared {
    fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request and says what to do with it: the next reply, or 200 when none is left.
    fn note(&self, request: Request) -> Reply {
        Self::lock(&self.requests).push(request);
        let next = Self::lock(&self.replies).pop_front();
        next.unwrap_or_else(|| Reply::body("ok"))
    }
}

impl Endpoint {
    /// Listens on a free port of 127.0.0.1 with plain HTTP.
    pub async fn start() -> anyhow::Result<Self> {
        Self::serve(None).await
    }

    /// The same with TLS, for `localhost` and 127.0.0.1, under an authority of its own.
    pub async fn start_tls() -> anyhow::Result<Self> {
        Self::serve(Some(Identity::generate()?)).await
    }

    async fn serve(identity: Option<Identity>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("opening a port for the endpoint")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let (acceptor, ca_pem) = identity
            .map(|identity| (identity.acceptor, identity.ca_pem))
            .unzip();
        let task = tokio::spawn(connection::accept(listener, acceptor, Arc::clone(&shared)));
        Ok(Self {
            shared,
            address,
            ca_pem,
            _task: AbortOnDropHandle::new(task),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL here, by the address's own number.
    pub fn url(&self, path: &str) -> String {
        self.url_at("127.0.0.1", path)
    }

    /// A URL here, by a name or another notation.
    pub fn url_at(&self, host: &str, path: &str) -> String {
        let scheme = if self.ca_pem.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{host}:{}{path}", self.address.port())
    }

    /// The authority to trust, when it speaks TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// What it does with the next requests, one each; after these it answers 200.
    pub fn reply(&self, replies: impl IntoIterator<Item = Reply>) {
        Shared::lock(&self.shared.replies).extend(replies);
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        Shared::lock(&self.shared.requests).clone()
    }

    /// Connections that were made so far, whatever came of them.
    pub fn connections(&self) -> usize {
        *Shared::lock(&self.shared.connections)
    }
}
