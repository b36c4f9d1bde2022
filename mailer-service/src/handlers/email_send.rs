//! `email.send`: hands one mail to the relay and says what became of it.

use super::{Context, Handler, Services};
use crate::{
    smtp::{Class, Outgoing, SendError},
    task::{Failure, TaskError},
};
use shared::kinds::{EmailSend, EmailSent};

impl Handler for EmailSend {
    async fn run(self, context: &Context, services: &Services) -> Result<EmailSent, TaskError> {
        let outgoing = Outgoing {
            task_id: context.task,
            mail: &self,
            not_before: context.run_at,
            permit: context,
        };
        // A mail that is on the wire finishes, whatever is cancelled; only the hard limit drops it.
        services
            .mail
            .send(&outgoing, context.deadline)
            .await
            .map_err(|error| verdict(&error))
    }
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

fn verdict(error: &SendError) -> TaskError {
    let failure = Failure::new(error.code, describe(error));
    match error.class {
        Class::Retry => TaskError::Retry(failure),
        // The relay may have the mail. Another attempt sends the same bytes under the same Message-ID, so
        // that the recipient's server can drop the second copy.
        Class::UnknownOutcome => TaskError::Unclear(failure),
        Class::RetryAfter(wait) => TaskError::RetryAfter(wait, failure),
        Class::Fail => TaskError::Fail(failure),
        Class::NotBegun => TaskError::Interrupted,
    }
}
