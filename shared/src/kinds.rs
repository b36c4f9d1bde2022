//! The kinds of task. A kind is two files and one line: its payload here, its handler in
//! `mailer-service/src/handlers/`, and its name in [`for_each_kind`]. The worker builds its dispatch
//! from the same list, so a kind without a handler does not compile.
//!
//! Names are wire forms: they are retired, never reused.

mod demo_calculate;
mod demo_noop;
mod demo_sleep;
mod demo_stream;
mod demo_unreliable;
pub mod email_code;
pub mod email_send;
pub mod http_request;

pub use demo_calculate::{DemoCalculate, DemoCalculated, Operation};
pub use demo_noop::{DemoNoop, DemoNoopDone};
pub use demo_sleep::{DemoSleep, DemoSlept};
pub use demo_stream::{DemoStream, DemoStreamed};
pub use demo_unreliable::{DemoUnreliable, DemoUnreliableDone, FailureClass};
pub use email_code::EmailCode;
pub use email_send::{EmailSend, EmailSent};
pub use http_request::{HttpAnswered, HttpRequest};

use crate::{
    address::Mailbox,
    backoff::Backoff,
    config::Categories,
    fields::{self, FieldError},
    outbound::Policy,
    task::{Limits, Queue},
    template::Shelf,
};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;

/// The one list. Calls `$then!` with every payload type.
#[macro_export]
macro_rules! for_each_kind {
    ($then:ident) => {
        $then! { EmailSend, EmailCode, HttpRequest, DemoNoop, DemoCalculate, DemoUnreliable, DemoSleep, DemoStream }
    };
}

/// What a kind of task is: its payload (`Self`), its result and its policy.
pub trait Kind: Serialize + DeserializeOwned + Send + 'static {
    const NAME: &'static str;
    const QUEUE: Queue;
    const LIMITS: Limits;
    const BACKOFF: Backoff;
    /// Demonstration kinds are off unless `service.demo_kinds` is set.
    const DEMO: bool = false;
    /// An endpoint of its own makes the tasks: no request may.
    const INTERNAL: bool = false;
    /// The handler says, by its context's `point_of_no_return`, from when on the work may have had its effect. Of other
    /// kinds that is said by the claim.
    const MARKS_POINT: bool = false;
    type Output: Serialize + Send;

    /// Checks the payload at the door and fills in what configuration supplies.
    fn prepare(&mut self, defaults: &AcceptDefaults) -> Result<(), Vec<FieldError>>;

    /// What a prepared payload asks of its task.
    fn terms(&self, _defaults: &AcceptDefaults) -> PayloadTerms {
        PayloadTerms::default()
    }
}

/// What a payload asks of its task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PayloadTerms {
    /// Of a task that names none; none: the usual one.
    pub priority: Option<u8>,
    /// Seconds after the task's end until the payload's content is removed; none: with the task.
    pub content_ttl_s: Option<i32>,
}

/// A payload that was accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accepted {
    /// In the form that is stored.
    pub json: String,
    pub terms: PayloadTerms,
}

/// What accepting a payload needs from the configuration.
#[derive(Debug, Clone)]
pub struct AcceptDefaults {
    pub from: Option<Mailbox>,
    pub max_recipients: usize,
    pub max_subject_bytes: usize,
    pub max_headers: usize,
    pub max_metadata: usize,
    /// There are links to unsubscribe, so mails that need one can be sent.
    pub can_unsubscribe: bool,
    pub categories: Categories,
    pub outbound: Arc<Policy>,
    pub templates: Arc<dyn Shelf>,
}

/// A kind as data: what is known of it without its payload.
#[derive(Debug)]
pub struct KindInfo {
    pub name: &'static str,
    pub queue: Queue,
    pub limits: Limits,
    pub backoff: Backoff,
    pub demo: bool,
    pub internal: bool,
    pub marks_point: bool,
    /// Parses and prepares a payload.
    pub accept: fn(&[u8], &AcceptDefaults) -> Result<Accepted, Vec<FieldError>>,
}

macro_rules! registry {
    ($($kind:ident),* $(,)?) => {
        /// Every kind, in the order of the list.
        pub static KINDS: &[KindInfo] = &[$(KindInfo {
            name: $kind::NAME,
            queue: $kind::QUEUE,
            limits: $kind::LIMITS,
            backoff: $kind::BACKOFF,
            demo: $kind::DEMO,
            internal: $kind::INTERNAL,
            marks_point: $kind::MARKS_POINT,
            accept: accept::<$kind>,
        }),*];
    };
}
for_each_kind!(registry);

/// The kind of that name.
pub fn find(name: &str) -> Option<&'static KindInfo> {
    KINDS.iter().find(|kind| kind.name == name)
}

fn accept<K: Kind>(json: &[u8], defaults: &AcceptDefaults) -> Result<Accepted, Vec<FieldError>> {
    let mut payload: K = fields::parse(json).map_err(|error| vec![error])?;
    payload.prepare(defaults)?;
    Ok(Accepted {
        json: to_json(&payload)?,
        terms: payload.terms(defaults),
    })
}

/// The stored form of a payload.
pub fn to_json<K: Kind>(payload: &K) -> Result<String, Vec<FieldError>> {
    serde_json::to_string(payload).map_err(|error| vec![FieldError::new("", error.to_string())])
}

#[cfg(test)]
use crate::template::NothingStored;

#[cfg(test)]
impl AcceptDefaults {
    pub(crate) fn for_tests() -> Self {
        let config = crate::config::Config::with(&[]).unwrap();
        Self {
            from: Mailbox::parse("Warren <warren@example.com>").ok(),
            max_recipients: 50,
            max_subject_bytes: 998,
            max_headers: 20,
            max_metadata: 20,
            can_unsubscribe: false,
            categories: config.mail.categories.clone(),
            outbound: Arc::new(Policy::new(&config.outbound).unwrap()),
            templates: Arc::new(NothingStored),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_well_formed() {
        for (i, kind) in KINDS.iter().enumerate() {
            assert!(
                kind.name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'.' || b == b'_')
            );
            assert!(KINDS[i + 1..].iter().all(|other| other.name != kind.name));
            assert!(find(kind.name).is_some());
        }
    }
}
