//! Who gets no mails, as this process knows it: a filter in memory, read anew every second, and the table where the filter
//! says "perhaps". What is put here is known here at once; the workers look again before they send.

use shared::{
    address::EmailAddress,
    db::Pool,
    pepper::Peppers,
    suppression::{About, Filter, Reader, forms, rows},
};
use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(1);

/// Clones share the filter.
#[derive(Clone)]
pub struct Suppressions {
    filter: Filter,
    pool: Pool,
    peppers: Peppers,
}

impl fmt::Debug for Suppressions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suppressions").finish_non_exhaustive()
    }
}

impl Suppressions {
    /// Starts reading; must be called in a tokio runtime.
    pub fn spawn(pool: Pool, peppers: Peppers, stop: CancellationToken) -> Self {
        let filter = Filter::default();
        let reader = Arc::new(Mutex::new(Reader::new(filter.clone())));
        let reading = pool.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            loop {
                let reader = Arc::clone(&reader);
                let read = reading.run(move |connection| {
                    let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
                    reader.read(connection)
                });
                // The outage itself is reported by the loops that live on the database.
                if let Err(error) = read.await {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "the suppressions could not be read; the last known ones are used"
                    );
                }
                tokio::time::sleep(EVERY).await;
            }
        }));
        Self {
            filter,
            pool,
            peppers,
        }
    }

    pub fn peppers(&self) -> &Peppers {
        &self.peppers
    }

    /// The forms in which the table may have an address.
    pub fn forms(&self, address: &EmailAddress) -> Vec<String> {
        forms(address, &self.peppers)
    }

    /// What has been put there just now.
    pub fn note<'a>(&self, addresses: impl IntoIterator<Item = &'a str>) {
        self.filter.add(addresses);
    }

    /// Those of the addresses that may have no mail of this sort. Where the database can't be asked: nobody; the worker
    /// asks again.
    pub async fn among<'a>(
        &self,
        addresses: impl IntoIterator<Item = &'a EmailAddress>,
        about: About<'_>,
    ) -> HashSet<&'a EmailAddress> {
        let asked: Vec<_> = addresses
            .into_iter()
            .map(|address| (address, self.forms(address)))
            .filter(|(_, forms)| self.filter.may_hold(forms))
            .collect();
        if asked.is_empty() {
            return HashSet::new();
        }
        let all: Vec<String> = asked
            .iter()
            .flat_map(|(_, forms)| forms.iter().cloned())
            .collect();
        let found = self
            .pool
            .run(move |connection| rows::blocking(connection, &all))
            .await
            .unwrap_or_default();
        let blocked: HashSet<&str> = found
            .iter()
            .filter(|row| row.concerns(about))
            .map(|row| row.address.as_str())
            .collect();
        let is_blocked =
            |forms: &[String]| forms.iter().any(|form| blocked.contains(form.as_str()));
        let blocked = asked.iter().filter(|(_, forms)| is_blocked(forms));
        blocked.map(|(address, _)| *address).collect()
    }
}
