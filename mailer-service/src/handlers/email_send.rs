//! `email.send`: hands one mail to the relay and says what became of it.

use super::{Context, Handler, Services};
use crate::{
    attachments::NoFile,
    smtp::{Class, Outgoing, SendError},
    suppressions::Unavailable,
    task::{Failure, TaskError},
    templates::NoTemplate,
};
use shared::{
    address::EmailAddress,
    kinds::{EmailSend, EmailSent},
    suppression::{About, HARD_BOUNCES, SUPPRESSED},
    template::{Compiled, Rendered, Usage},
};
use std::sync::Arc;

impl Handler for EmailSend {
    async fn run(mut self, context: &Context, services: &Services) -> Result<EmailSent, TaskError> {
        if self.content_removed {
            let text = "the content was removed when the mail had ended; send a new one";
            return Err(TaskError::Fail(Failure::new("content_removed", text)));
        }
        if let Some(usage) = self.template.take() {
            let made = make(&usage, services).await?;
            self.subject = Some(made.subject);
            self.text = made.text;
            self.html = made.html;
        }
        let waiting = services.attachments.load(&self.attachments);
        let loading = context.cancelled.run_until_cancelled(waiting).await;
        let loaded = loading.ok_or(TaskError::Interrupted)?.map_err(no_file)?;
        if let Some(recipient) = &self.recipient {
            let about = About {
                category: self.category,
                purpose: None,
            };
            check_suppressions(recipient, about, services).await?;
        }
        let outgoing = Outgoing {
            task_id: context.task,
            mail: &self,
            files: &loaded.contents,
            not_before: context.run_at,
            permit: context,
        };
        // A mail that is on the wire finishes, whatever is cancelled; only the hard limit drops it.
        services
            .mail
            .send(&outgoing, context.deadline)
            .await
            .map_err(|error| verdict(&error, self.recipient.as_ref()))
    }
}

/// Somebody who has been suppressed since the mail was accepted gets it no more.
pub(super) async fn check_suppressions(
    recipient: &EmailAddress,
    about: About<'_>,
    services: &Services,
) -> Result<(), TaskError> {
    match services.suppressions.why(recipient, about).await {
        Ok(None) => Ok(()),
        Ok(Some(reason)) => {
            let text = format!("the recipient gets no such mails ({reason}); nothing was sent");
            Err(TaskError::Decline(Failure::new(SUPPRESSED, text)))
        }
        Err(Unavailable) => {
            let text = "whether the recipient gets such mails could not be looked up";
            Err(TaskError::Retry(Failure::new(
                "suppressions_unavailable",
                text,
            )))
        }
    }
}

fn no_file(error: NoFile) -> TaskError {
    let text = error.to_string();
    match error {
        NoFile::Unavailable => TaskError::Retry(Failure::new("files_unavailable", text)),
        NoFile::NotConfigured => TaskError::Park(Failure::new("not_configured", text)),
        NoFile::Crowded(wait) => TaskError::PutOff(wait, Failure::new("files_crowded", text)),
        // Perhaps this worker has another folder, so others try too.
        NoFile::Gone => TaskError::Retry(Failure::new("file_gone", text)),
    }
}

/// What the door has tried already with the same version and values.
async fn make(usage: &Usage, services: &Services) -> Result<Rendered, TaskError> {
    let template = find_template(&usage.name, usage.version, services).await?;
    // The errors may hold what the caller wrote.
    let rendered = template.render(usage.locale.as_deref(), &usage.variables);
    rendered.map_err(|_| {
        let text = format!(
            "no mail can be made of {} and these values",
            called(&usage.name, usage.version)
        );
        TaskError::Fail(Failure::new("template_unusable", text))
    })
}

fn called(name: &str, version: Option<i32>) -> String {
    let version = version.map_or_else(String::new, |version| format!(", version {version},"));
    format!("the template {name}{version}")
}

pub(super) async fn find_template(
    name: &str,
    version: Option<i32>,
    services: &Services,
) -> Result<Arc<Compiled>, TaskError> {
    let of = called(name, version);
    let found = services.templates.get(name, version).await;
    found.map_err(|error| match error {
        NoTemplate::Unavailable => {
            let text = format!("{of} could not be read");
            TaskError::Retry(Failure::new("template_unavailable", text))
        }
        NoTemplate::Unusable(why) => {
            let text = format!("{of} can't be used: {why}");
            TaskError::Fail(Failure::new("template_unusable", text))
        }
    })
}

/// The relay's code, enhanced code and words, as far as there are any.
fn describe(error: &SendError) -> String {
    let code = error.smtp_code.map(|code| code.to_string());
    let parts = [
        code.as_deref(),
        error.enhanced.as_deref(),
        Some(error.text.as_str()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

pub(super) fn verdict(error: &SendError, recipient: Option<&EmailAddress>) -> TaskError {
    let mut failure = Failure::new(error.code, describe(error));
    let is_hard = error
        .enhanced
        .as_deref()
        .is_some_and(|code| HARD_BOUNCES.contains(&code));
    // A word about the sender is none about the recipient.
    if is_hard && error.names_recipient && error.class == Class::Fail {
        failure.hard_bounce = recipient.cloned().map(Box::new);
    }
    match error.class {
        Class::Retry => TaskError::Retry(failure),
        // The relay may have the mail. Another attempt sends the same bytes under the same Message-ID, so
        // that the recipient's server can drop the second copy.
        Class::UnknownOutcome => TaskError::Unclear(failure),
        Class::RetryAfter(wait) => TaskError::RetryAfter(wait, failure),
        Class::PutOff(wait) => TaskError::PutOff(wait, failure),
        Class::Fail => TaskError::Fail(failure),
        Class::NotBegun => TaskError::Interrupted,
    }
}
