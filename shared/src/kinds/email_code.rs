//! `email.code`: a code or a link that proves that somebody reads an address. Made by `POST /verifications` alone; the
//! payload does not hold the code, which the worker makes when it makes the mail.

use super::{AcceptDefaults, EmailSend, EmailSent, Kind};
use crate::{
    address::{EmailAddress, Mailbox},
    backoff::Backoff,
    category::Category,
    fields::FieldError,
    task::{Limits, Queue},
    verification::Form,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;
use uuid::Uuid;

/// The payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmailCode {
    pub verification: Uuid,
    /// The name of the secret.
    pub pepper: String,
    pub generation: i32,
    pub form: Form,
    pub purpose: String,
    #[schema(value_type = String)]
    pub recipient: EmailAddress,
    #[schema(value_type = Option<String>)]
    pub from: Option<Mailbox>,
    /// Always `security`.
    pub category: Category,
    pub template: String,
    /// None: Warren brings it.
    pub version: Option<i32>,
    pub locale: Option<String>,
    /// What the template is given beside the code and the links.
    #[schema(value_type = Object)]
    pub variables: Map<String, Value>,
}

impl Kind for EmailCode {
    const NAME: &'static str = "email.code";
    const QUEUE: Queue = Queue::Mail;
    const LIMITS: Limits = Limits::DEFAULT;
    /// Quick, since somebody waits; the code's end is the mail's.
    const BACKOFF: Backoff = Backoff {
        max_attempts: 14,
        first: Duration::from_secs(1),
        factor: 2,
        longest: Duration::from_secs(60),
    };
    const INTERNAL: bool = true;
    const MARKS_POINT: bool = <EmailSend as Kind>::MARKS_POINT;
    type Output = EmailSent;

    fn prepare(&mut self, _defaults: &AcceptDefaults) -> Result<(), Vec<FieldError>> {
        let detail = "is made by POST /verifications alone";
        Err(vec![FieldError::new("", detail)])
    }
}

/// The values that the mail is made of. `proof`: the code, or the link; `not_me`: where somebody says that they did not
/// ask for it. Only what the template knows.
pub fn values(
    variables: &Map<String, Value>,
    form: Form,
    proof: &str,
    not_me: Option<&str>,
    is_known: impl Fn(&str) -> bool,
) -> Map<String, Value> {
    let name = if form == Form::Link { "url" } else { "code" };
    let mut values = variables.clone();
    values.insert(name.into(), proof.into());
    if let Some(not_me) = not_me {
        values.insert("not_me_url".into(), not_me.into());
    }
    values.retain(|name, _| is_known(name));
    values
}
