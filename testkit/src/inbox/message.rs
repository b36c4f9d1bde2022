//! One mail as it arrived. Nothing is parsed before somebody asks.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use actix_web::web::Bytes;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{TASK_HEADER, headers, parsed::Parsed};

/// A mail with its envelope.
#[derive(Debug)]
pub struct Message {
    /// The id in the REST API and in the reply to the final dot.
    pub id: Uuid,
    /// The reverse path of MAIL, empty for `<>`.
    pub envelope_from: String,
    /// The forward paths of RCPT, in order.
    pub envelope_to: Vec<String>,
    /// When the final dot was read.
    pub received_at: DateTime<Utc>,
    /// Bytes of the mail, also where they are not kept.
    pub size: usize,
    /// The mail after dot-unstuffing; empty in light mode.
    pub raw: Bytes,
    /// Who sent it and how.
    pub client: Arc<Client>,
    /// Light mode: the task header's value.
    pub(super) task: Option<String>,
    /// Place in the order of arrival.
    pub(super) seq: u64,
    pub(super) read: AtomicBool,
}

/// What was known of the SMTP client when it sent a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    pub address: SocketAddr,
    /// The name given to EHLO or HELO.
    pub helo: String,
    /// The connection was encrypted.
    pub tls: bool,
    /// The user of AUTH.
    pub user: Option<String>,
}

impl Message {
    /// The mail's parts, parsed now; empty in light mode.
    pub fn parsed(&self) -> Parsed {
        Parsed::from_raw(&self.raw)
    }

    /// The first value of a header, unfolded but not decoded. Light mode knows only [`TASK_HEADER`].
    pub fn header(&self, name: &str) -> Option<String> {
        match &self.task {
            Some(task) if name.eq_ignore_ascii_case(TASK_HEADER) => Some(task.clone()),
            _ => headers::value(&self.raw, name),
        }
    }

    /// The value of [`TASK_HEADER`].
    pub fn task(&self) -> Option<String> {
        self.header(TASK_HEADER)
    }

    /// Whether the envelope names this recipient, in any case.
    pub fn is_to(&self, address: &str) -> bool {
        self.envelope_to
            .iter()
            .any(|to| to.eq_ignore_ascii_case(address))
    }

    /// Whether it was opened in the web page or by its id.
    pub fn is_read(&self) -> bool {
        self.read.load(Ordering::Relaxed)
    }

    /// Memory that it takes, near enough for the cap.
    pub(super) fn cost(&self) -> usize {
        let addresses: usize = self
            .envelope_to
            .iter()
            .map(|to| to.capacity() + size_of::<String>())
            .sum();
        let task = self.task.as_ref().map_or(0, String::capacity);
        size_of::<Self>() + self.raw.len() + self.envelope_from.capacity() + addresses + task
    }
}
