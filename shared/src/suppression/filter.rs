//! Which addresses may be suppressed: 4 bytes for each, so a million take 4 MB. About one address in 4,000 is then asked
//! about in vain.

use super::rows;
use chrono::{DateTime, TimeDelta, Utc};
use diesel::{PgConnection, QueryResult};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};
use uuid::Uuid;

/// Fingerprints that are kept beside the sorted ones.
const LOOSE: usize = 4096;
const PAGE: i64 = 10_000;
/// A transaction may commit a row after a later one was read.
const OVERLAP: TimeDelta = TimeDelta::seconds(2);
/// Every so many readings, for slow ones too.
const LOOK_BACK_EVERY: u32 = 60;
const LOOK_BACK: TimeDelta = TimeDelta::seconds(90);

/// Clones share it. Nothing leaves it: who is no longer suppressed is asked about in vain.
#[derive(Debug, Clone, Default)]
pub struct Filter(Arc<RwLock<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    sorted: Vec<u32>,
    loose: HashSet<u32>,
    is_complete: bool,
}

impl Filter {
    /// False: none of these is suppressed. Before the first reading it is true of all.
    pub fn may_hold(&self, forms: &[String]) -> bool {
        let seen = self.0.read().unwrap_or_else(PoisonError::into_inner);
        !seen.is_complete || forms.iter().any(|form| seen.has(fingerprint(form)))
    }

    pub fn add<'a>(&self, forms: impl IntoIterator<Item = &'a str>) {
        let mut seen = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for form in forms {
            seen.add(fingerprint(form));
        }
    }

    fn complete(&self) {
        let mut seen = self.0.write().unwrap_or_else(PoisonError::into_inner);
        seen.settle();
        seen.is_complete = true;
    }
}

impl Seen {
    fn has(&self, fingerprint: u32) -> bool {
        self.loose.contains(&fingerprint) || self.sorted.binary_search(&fingerprint).is_ok()
    }

    fn add(&mut self, fingerprint: u32) {
        if self.has(fingerprint) {
            return;
        }
        self.loose.insert(fingerprint);
        // Sorting anew costs more the more there are, so it is done the more seldom.
        if self.loose.len() >= LOOSE.max(self.sorted.len() / 4) {
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.sorted.extend(self.loose.drain());
        self.sorted.sort_unstable();
        self.loose.shrink_to(LOOSE);
    }
}

fn fingerprint(form: &str) -> u32 {
    let hash = Sha256::digest(form.as_bytes());
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// Reads what is new into a filter.
#[derive(Debug, Default)]
pub struct Reader {
    filter: Filter,
    mark: Option<DateTime<Utc>>,
    readings: u32,
}

impl Reader {
    pub fn new(filter: Filter) -> Self {
        Self {
            filter,
            ..Self::default()
        }
    }

    /// To be called once a second. After an error it goes on where it was.
    pub fn read(&mut self, connection: &mut PgConnection) -> QueryResult<()> {
        let back = if self.readings % LOOK_BACK_EVERY == LOOK_BACK_EVERY - 1 {
            LOOK_BACK
        } else {
            OVERLAP
        };
        let begin = self.mark.and_then(|mark| mark.checked_sub_signed(back));
        let mut after = (begin.unwrap_or(DateTime::UNIX_EPOCH), Uuid::nil());
        loop {
            let page = rows::changed(connection, after, PAGE)?;
            self.filter
                .add(page.iter().map(|(address, ..)| address.as_str()));
            let Some((_, at, id)) = page.last() else {
                break;
            };
            after = (*at, *id);
            if page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX) {
                break;
            }
        }
        self.mark = Some(after.0.max(self.mark.unwrap_or(after.0)));
        if self.readings == 0 {
            self.filter.complete();
        }
        self.readings = self.readings.wrapping_add(1).max(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_never_missed() {
        let filter = Filter::default();
        assert!(filter.may_hold(&["anybody".into()]));
        filter.complete();
        let name = |at: u32| format!("{at}@example.com");
        for at in 0..20_000 {
            filter.add([name(at).as_str()]);
        }
        assert!((0..20_000).all(|at| filter.may_hold(&[name(at)])));
        let in_vain = (20_000..40_000).filter(|at| filter.may_hold(&[name(*at)]));
        assert!(in_vain.count() < 10);
    }
}
