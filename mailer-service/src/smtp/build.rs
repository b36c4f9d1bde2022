//! From a payload to the bytes of a mail. A pure function of the task's id and payload: every attempt
//! sends the same bytes, so that relays and mailboxes can tell a repeat.
//!
//! The bytes are 7-bit ASCII (except for header addresses that have no ASCII form, RFC 6532) in CRLF
//! lines of at most 998 octets (RFC 5322, 2.1.1), whatever the payload says; [`form`] checks it once more.

mod body;
mod form;
mod text;

use super::dkim::Signers;
use chrono::{DateTime, Utc};
use lettre::{
    Address,
    message::{
        Mailbox, Mailboxes,
        header::{self, HeaderName, HeaderValue, Headers},
    },
};
use shared::{
    address,
    category::Category,
    kinds::{EmailSend, email_send::check_header},
    pepper::Peppers,
    task::TaskId,
    unsubscribe::{self, Unsubscription},
};
use std::{
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// What building needs from the configuration.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// `mail.message_id_domain`; the sender's domain when there is none.
    pub message_id_domain: Option<String>,
    /// Who signs.
    pub dkim: Arc<Signers>,
    /// For links to unsubscribe.
    pub public_url: Option<String>,
    pub peppers: Peppers,
}

/// No mail can be made of this payload; another attempt would find the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    #[error("the mail has no {0}")]
    Missing(&'static str),
    #[error("an extra header is refused: {0}")]
    Header(&'static str),
    #[error("the task's id holds no time")]
    NoTime,
    #[error("the built mail is not in order: {0}")]
    Form(&'static str),
    #[error("the mail could not be signed")]
    Unsigned,
    #[error("the mail could not be built")]
    Panicked,
}

/// Builds the mail; `files` are what its attachments hold, in their order. The result ends with CRLF and is not dot-stuffed. A mail that was scheduled is dated
/// `not_before`, another one when it was accepted.
pub fn build<F: AsRef<[u8]>>(
    task_id: TaskId,
    mail: &EmailSend,
    files: &[F],
    not_before: Option<DateTime<Utc>>,
    options: &BuildOptions,
) -> Result<Vec<u8>, BuildError> {
    // lettre panics on some input that should not get here.
    let built = catch_unwind(AssertUnwindSafe(|| {
        assemble(task_id, mail, files, not_before, options)
    }))
    .map_err(|_| BuildError::Panicked)??;
    form::check(&built, has_utf8_addresses(mail)).map_err(BuildError::Form)?;
    let from = mail.from.as_ref().ok_or(BuildError::Missing("sender"))?;
    let date = dated(task_id, not_before)?.timestamp();
    let signatures = options.dkim.sign(&from.address, date, &built);
    let mut signed = signatures.map_err(|_| BuildError::Unsigned)?;
    if signed.is_empty() {
        return Ok(built);
    }
    signed.extend_from_slice(&built);
    Ok(signed)
}

/// The Message-ID without angle brackets; the same for all copies of a group.
pub fn message_id(
    task_id: TaskId,
    mail: &EmailSend,
    options: &BuildOptions,
) -> Result<String, BuildError> {
    let from = mail.from.as_ref().ok_or(BuildError::Missing("sender"))?;
    let domain = options
        .message_id_domain
        .as_deref()
        .unwrap_or(from.address.domain());
    Ok(format!("{}@{domain}", mail.message_id.unwrap_or(task_id)))
}

fn assemble<F: AsRef<[u8]>>(
    task_id: TaskId,
    mail: &EmailSend,
    files: &[F],
    not_before: Option<DateTime<Utc>>,
    options: &BuildOptions,
) -> Result<Vec<u8>, BuildError> {
    let from = mail.from.as_ref().ok_or(BuildError::Missing("sender"))?;
    let mut headers = Headers::with_capacity(10 + mail.headers.len());
    headers.set(header::Date::new(dated(task_id, not_before)?.into()));
    headers.set(header::From::from(mailboxes([from])));
    if mail.to.is_empty() {
        return Err(BuildError::Missing("To address"));
    }
    headers.set(header::To::from(mailboxes(&mail.to)));
    if !mail.cc.is_empty() {
        headers.set(header::Cc::from(mailboxes(&mail.cc)));
    }
    if !mail.reply_to.is_empty() {
        headers.set(header::ReplyTo::from(mailboxes(&mail.reply_to)));
    }
    headers.insert_raw(text::subject(mail.subject.as_deref().unwrap_or_default()));
    headers.set(header::MessageId::from(format!(
        "<{}>",
        message_id(task_id, mail, options)?
    )));
    let task = HeaderName::new_from_ascii_str("X-Warren-Task");
    headers.insert_raw(HeaderValue::new(task, task_id.to_string()));
    for (name, value) in &mail.headers {
        // The door has checked it; a mail is forged where this is forgotten.
        check_header(name, value).map_err(BuildError::Header)?;
        let name = HeaderName::new_from_ascii(name.clone())
            .map_err(|_| BuildError::Header("the name is not usable"))?;
        headers.insert_raw(text::header(name, value));
    }
    if mail.category == Category::Marketing {
        unsubscribing(task_id, mail, options, &mut headers)?;
    }
    headers.set(header::MIME_VERSION_1_0);

    let body = body::body(task_id, mail, files)?;
    let mut built = Vec::with_capacity(1024 + body.len());
    write!(built, "{headers}").map_err(|_| BuildError::Panicked)?;
    built.extend_from_slice(&body);
    Ok(built)
}

/// One click is enough (RFC 8058): the link takes a POST without a login.
fn unsubscribing(
    task_id: TaskId,
    mail: &EmailSend,
    options: &BuildOptions,
    headers: &mut Headers,
) -> Result<(), BuildError> {
    const NONE: BuildError = BuildError::Missing(
        "link to unsubscribe, for which this worker lacks http.public_url or secrets.peppers",
    );
    let unsubscription = Unsubscription {
        address: mail
            .recipient
            .clone()
            .ok_or(BuildError::Missing("recipient"))?,
        category: mail.category,
        task: task_id,
    };
    let url = options.public_url.as_deref().ok_or(NONE)?;
    let token = unsubscription.token(&options.peppers).ok_or(NONE)?;
    // A folded URL is no URL for some; the line stays below 998 octets by the limits of address and URL.
    let link = format!("<{url}{}{token}>", unsubscribe::PATH);
    for (name, value) in [
        ("List-Unsubscribe", link),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click".into()),
    ] {
        let name = HeaderName::new_from_ascii_str(name);
        headers.insert_raw(HeaderValue::dangerous_new_pre_encoded(
            name,
            value.clone(),
            value,
        ));
    }
    Ok(())
}

/// When the mail was accepted, or scheduled for.
fn dated(task_id: TaskId, not_before: Option<DateTime<Utc>>) -> Result<DateTime<Utc>, BuildError> {
    let accepted_at = accepted_at(task_id)?;
    Ok(not_before.map_or(accepted_at, |time| time.max(accepted_at)))
}

/// When the task was accepted, to the second: the id's own time (RFC 9562, 5.7).
fn accepted_at(task_id: TaskId) -> Result<DateTime<Utc>, BuildError> {
    let (seconds, _) = task_id
        .0
        .get_timestamp()
        .ok_or(BuildError::NoTime)?
        .to_unix();
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
        .ok_or(BuildError::NoTime)
}

fn mailboxes<'a>(list: impl IntoIterator<Item = &'a address::Mailbox>) -> Mailboxes {
    let mailbox = |one: &address::Mailbox| {
        // Both halves were parsed more strictly than lettre does.
        Mailbox::new(
            one.name.clone(),
            Address::new_dangerous(one.address.local(), one.address.domain()),
        )
    };
    list.into_iter().map(mailbox).collect()
}

fn has_utf8_addresses(mail: &EmailSend) -> bool {
    let listed = mail
        .to
        .iter()
        .chain(&mail.cc)
        .chain(&mail.reply_to)
        .chain(&mail.from);
    listed
        .into_iter()
        .any(|mailbox| !mailbox.address.as_str().is_ascii())
}

#[cfg(test)]
mod tests;
