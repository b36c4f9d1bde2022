//! The mails in memory, within two caps: the oldest make room for the newest and are counted.
//!
//! One lock, held for the moves of pointers only; parsing happens outside of it. Each arrival ticks a watch
//! channel, so that waiting costs nothing and misses nothing.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use actix_web::web::Bytes;
use chrono::Utc;
use tokio::sync::watch;
use uuid::Uuid;

use super::{Client, InboxOptions, Message, TASK_HEADER, headers};

pub(super) struct Store {
    inner: Mutex<Inner>,
    arrivals: watch::Sender<()>,
    keep_raw: bool,
    max_messages: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct Inner {
    /// In order of arrival.
    messages: VecDeque<Arc<Message>>,
    next_seq: u64,
    stats: Stats,
}

/// Counts of a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages kept now.
    pub kept: usize,
    /// Of these, never opened.
    pub unread: usize,
    /// Memory they take.
    pub bytes: usize,
    /// Dropped by a cap since the last clear.
    pub dropped: u64,
    /// Accepted since the start.
    pub accepted: u64,
    /// Bytes accepted since the start.
    pub accepted_bytes: u64,
    /// Deleted on request since the start.
    pub deleted: u64,
}

/// A mail that SMTP has just taken.
pub(super) struct Arrival<'a> {
    pub(super) from: String,
    pub(super) to: Vec<String>,
    pub(super) body: &'a [u8],
    pub(super) client: Arc<Client>,
}

impl Store {
    pub(super) fn new(options: &InboxOptions) -> Self {
        Self {
            inner: Mutex::default(),
            arrivals: watch::Sender::new(()),
            keep_raw: options.keep_raw,
            max_messages: options.max_messages.max(1),
            max_bytes: options.max_bytes,
        }
    }

    /// Keeps a mail and wakes who waits for it.
    pub(super) fn add(&self, mail: Arrival<'_>) -> Uuid {
        let id = Uuid::now_v7();
        let (raw, task) = if self.keep_raw {
            (Bytes::copy_from_slice(mail.body), None)
        } else {
            (Bytes::new(), headers::value(mail.body, TASK_HEADER))
        };
        let mut message = Message {
            id,
            envelope_from: mail.from,
            envelope_to: mail.to,
            received_at: Utc::now(),
            size: mail.body.len(),
            raw,
            client: mail.client,
            task,
            seq: 0,
            read: AtomicBool::new(false),
        };
        let cost = message.cost();
        {
            let mut inner = self.lock();
            message.seq = inner.next_seq;
            inner.next_seq += 1;
            inner.stats.bytes += cost;
            inner.stats.unread += 1;
            inner.stats.accepted += 1;
            inner.stats.accepted_bytes += message.size as u64;
            inner.messages.push_back(Arc::new(message));
            while inner.messages.len() > self.max_messages
                || (inner.stats.bytes > self.max_bytes && inner.messages.len() > 1)
            {
                if let Some(oldest) = inner.messages.pop_front() {
                    inner.forget(&oldest);
                    inner.stats.dropped += 1;
                }
            }
        }
        self.arrivals.send_replace(());
        id
    }

    pub(super) fn stats(&self) -> Stats {
        let inner = self.lock();
        Stats {
            kept: inner.messages.len(),
            ..inner.stats
        }
    }

    /// Mails accepted and not deleted since, also those that a cap dropped.
    pub(super) fn count(&self) -> u64 {
        let stats = self.stats();
        stats.kept as u64 + stats.dropped
    }

    /// All kept mails, oldest first.
    pub(super) fn messages(&self) -> Vec<Arc<Message>> {
        self.lock().messages.iter().cloned().collect()
    }

    /// Kept mails from this place in the order of arrival on, and the place to go on from.
    pub(super) fn since(&self, seq: u64) -> (Vec<Arc<Message>>, u64) {
        let inner = self.lock();
        let first = inner.messages.partition_point(|message| message.seq < seq);
        (
            inner.messages.range(first..).cloned().collect(),
            inner.next_seq,
        )
    }

    /// A page of the mails, newest first.
    pub(super) fn page(&self, start: usize, limit: usize) -> Vec<Arc<Message>> {
        self.lock()
            .messages
            .iter()
            .rev()
            .skip(start)
            .take(limit)
            .cloned()
            .collect()
    }

    pub(super) fn get(&self, id: Uuid) -> Option<Arc<Message>> {
        self.lock()
            .messages
            .iter()
            .rev()
            .find(|message| message.id == id)
            .cloned()
    }

    pub(super) fn latest(&self) -> Option<Arc<Message>> {
        self.lock().messages.back().cloned()
    }

    pub(super) fn mark_read(&self, message: &Message) {
        // Under the lock, so that the count of unread mails agrees with their flags.
        let mut inner = self.lock();
        if !message.read.swap(true, Ordering::Relaxed) {
            inner.stats.unread = inner.stats.unread.saturating_sub(1);
        }
    }

    pub(super) fn delete(&self, ids: &[Uuid]) {
        let mut inner = self.lock();
        let (gone, kept) = inner
            .messages
            .drain(..)
            .partition(|message| ids.contains(&message.id));
        inner.messages = kept;
        let gone: VecDeque<Arc<Message>> = gone;
        for message in &gone {
            inner.forget(message);
        }
        inner.stats.deleted += gone.len() as u64;
    }

    pub(super) fn clear(&self) {
        let mut inner = self.lock();
        let gone = std::mem::take(&mut inner.messages);
        for message in &gone {
            inner.forget(message);
        }
        inner.stats.deleted += gone.len() as u64;
        inner.stats.dropped = 0;
    }

    /// Ticks at each arrival.
    pub(super) fn arrivals(&self) -> watch::Receiver<()> {
        self.arrivals.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Takes a removed mail out of the sums. It counts as read from now on, so that opening a copy that
    /// somebody still holds changes nothing.
    fn forget(&mut self, message: &Message) {
        self.stats.bytes = self.stats.bytes.saturating_sub(message.cost());
        if !message.read.swap(true, Ordering::Relaxed) {
            self.stats.unread = self.stats.unread.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests;
