//! A development mail server: real SMTP in, a REST API and a web page to read it, and switches that make it
//! fail in the ways that relays fail.
//!
//! It serves people (`make run`), tests, fault runs and benchmarks, and so is one thing that each can start in a
//! line, on free ports, in its own threads whatever runtime the caller has:
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use std::time::Duration;
//! use testkit::inbox::{Inbox, InboxOptions};
//!
//! let inbox = Inbox::start(InboxOptions::default())?;
//! // … send a mail to inbox.smtp_addr() …
//! let mail = inbox.wait_for_recipient("ann@warren.test", Duration::from_secs(5)).await?;
//! assert_eq!(mail.parsed().subject, "Hello");
//! # Ok(()) }
//! ```
//!
//! What must stay true: a mail is answered with 250 only when it can be read here (or was dropped by a cap, and
//! counted); nothing of a mail is parsed on the SMTP path; no input makes it panic.

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::oneshot;

mod deliveries;
mod faults;
mod gate;
mod headers;
mod http;
mod message;
mod options;
mod parsed;
mod server;
mod smtp;
mod store;
mod wait;

pub use self::{
    deliveries::Delivery,
    faults::{Action, FaultRule, Phase},
    message::{Client, Message},
    options::{Auth, InboxOptions},
    parsed::{Attachment, Mailbox, Parsed},
    store::Stats,
};
use self::{deliveries::Tally, faults::Faults, gate::Gate, store::Store};
use crate::tls::Identity;

/// The header by which a mail names its task.
pub const TASK_HEADER: &str = "X-Warren-Task";

/// A running inbox. It ends with [`stop`](Self::stop), which waits, or when it is dropped, which does not.
#[derive(Debug)]
pub struct Inbox {
    shared: Arc<Shared>,
    addresses: Addresses,
    ended: Option<oneshot::Receiver<()>>,
}

/// Where it listens.
#[derive(Debug, Clone, Copy)]
struct Addresses {
    smtp: SocketAddr,
    smtps: Option<SocketAddr>,
    http: SocketAddr,
}

/// What the SMTP and HTTP sides have in common.
struct Shared {
    options: InboxOptions,
    store: Store,
    faults: Faults,
    gate: Gate,
    identity: Identity,
    started: std::time::Instant,
}

impl Inbox {
    /// Opens the ports and serves them on threads of its own; on return all of them answer.
    pub fn start(options: InboxOptions) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            store: Store::new(&options),
            faults: Faults::default(),
            gate: Gate::new(options.max_connections),
            identity: Identity::generate()?,
            started: std::time::Instant::now(),
            options,
        });
        let (addresses, ended) = server::spawn(&shared)?;
        Ok(Self {
            shared,
            addresses,
            ended: Some(ended),
        })
    }

    /// SMTP with STARTTLS.
    pub fn smtp_addr(&self) -> SocketAddr {
        self.addresses.smtp
    }

    /// SMTP over implicit TLS, if that port was asked for.
    pub fn smtps_addr(&self) -> Option<SocketAddr> {
        self.addresses.smtps
    }

    /// Base of the web page and the REST API, without a slash at the end.
    pub fn http_url(&self) -> String {
        format!("http://{}", self.addresses.http)
    }

    /// The certificate authority to trust, valid for `localhost`, 127.0.0.1 and `::1`; new at each start.
    pub fn ca_pem(&self) -> &str {
        &self.shared.identity.ca_pem
    }

    /// All kept mails, oldest first.
    pub fn messages(&self) -> Vec<Arc<Message>> {
        self.shared.store.messages()
    }

    /// Mails accepted and not deleted since, also those that a cap dropped.
    pub fn count(&self) -> u64 {
        self.shared.store.count()
    }

    /// Counts of this moment.
    pub fn stats(&self) -> Stats {
        self.shared.store.stats()
    }

    /// How often each task's mail arrived, by [`TASK_HEADER`], in the order of first arrival.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.deliveries_by(TASK_HEADER)
    }

    /// The same by another header; light mode keeps [`TASK_HEADER`] only.
    pub fn deliveries_by(&self, header: &str) -> Vec<Delivery> {
        Tally::of(&self.shared.store, header).deliveries
    }

    /// Replaces the fault rules; an error names the wrong one and leaves the old ones in place.
    pub fn set_faults(&self, rules: Vec<FaultRule>) -> anyhow::Result<()> {
        self.shared.faults.set(rules)
    }

    /// The fault rules, `times` counted down to what is left.
    pub fn faults(&self) -> Vec<FaultRule> {
        self.shared.faults.rules()
    }

    /// Deletes all mails and forgets who tried before (greylisting, counted switches). Fault rules stay.
    pub fn clear(&self) {
        self.shared.clear();
    }

    /// Open SMTP connections.
    pub fn connections(&self) -> usize {
        self.shared.gate.connections()
    }

    /// Cuts every open SMTP connection, idle ones too; new ones are welcome.
    pub fn drop_connections(&self) {
        self.shared.gate.cut();
    }

    /// Stops taking SMTP connections: they are established by the kernel but hear nothing until
    /// [`resume`](Self::resume). Open ones go on. To have them refused, stop the inbox.
    pub fn pause(&self) {
        self.shared.gate.set_open(false);
    }

    /// Takes connections again, first those that came in the pause.
    pub fn resume(&self) {
        self.shared.gate.set_open(true);
    }

    /// Ends it and returns when all ports are free again.
    pub async fn stop(mut self) {
        self.shared.gate.end();
        if let Some(ended) = self.ended.take() {
            // An error means that the thread is gone, which is what was asked for.
            let _ = ended.await;
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.shared.gate.end();
    }
}

impl Shared {
    fn clear(&self) {
        self.store.clear();
        self.faults.forget_tries();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
