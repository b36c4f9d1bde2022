//! Waiting for mail without polling: each arrival wakes the waiter, which then looks at the new mails only.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use tokio::time::timeout;

use super::{Inbox, Message};

/// Recipients named in the error of a wait in vain.
const NAMED: usize = 10;

impl Inbox {
    /// Returns once `count` mails have come, see [`count`](Self::count).
    pub async fn wait_for_count(&self, count: u64, within: Duration) -> anyhow::Result<()> {
        let store = &self.shared.store;
        let mut arrivals = store.arrivals();
        let enough = async { while store.count() < count && arrivals.changed().await.is_ok() {} };
        if timeout(within, enough).await.is_err() {
            bail!(
                "waited {within:?} for {count} mails, {} came",
                store.count()
            );
        }
        Ok(())
    }

    /// The oldest kept mail to this recipient of the envelope (in any case), waiting for it if need be.
    pub async fn wait_for_recipient(
        &self,
        address: &str,
        within: Duration,
    ) -> anyhow::Result<Arc<Message>> {
        let mails = self.wait_for_mails_to(address, 1, within).await?;
        mails.into_iter().next().context("the inbox has ended")
    }

    /// The first `count` kept mails to this recipient, oldest first, at least one.
    pub async fn wait_for_mails_to(
        &self,
        address: &str,
        count: usize,
        within: Duration,
    ) -> anyhow::Result<Vec<Arc<Message>>> {
        let count = count.max(1);
        let mut found = Vec::new();
        if timeout(within, self.collect(address, count, &mut found))
            .await
            .is_err()
        {
            let others = self.recipients().join(", ");
            bail!(
                "waited {within:?} for {count} mails to {address}, {} came; mails are to: [{others}]",
                found.len()
            );
        }
        Ok(found)
    }

    async fn collect(&self, address: &str, count: usize, found: &mut Vec<Arc<Message>>) {
        let store = &self.shared.store;
        let mut arrivals = store.arrivals();
        let mut from = 0;
        loop {
            let (mails, next) = store.since(from);
            from = next;
            found.extend(
                mails
                    .into_iter()
                    .filter(|mail| mail.is_to(address))
                    .take(count - found.len()),
            );
            if found.len() == count || arrivals.changed().await.is_err() {
                return;
            }
        }
    }

    fn recipients(&self) -> Vec<String> {
        let newest = self.shared.store.page(0, NAMED);
        newest
            .iter()
            .flat_map(|mail| mail.envelope_to.iter().cloned())
            .take(NAMED)
            .collect()
    }
}
