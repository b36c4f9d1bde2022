//! `email.send`: hands one mail to the relay and says what became of it.

use super::{Context, Handler, Services};
use crate::{
    smtp::{Class, Outgoing, SendError},
    task::{Failure, TaskError},
    templates::NoTemplate,
};
use shared::{
    kinds::{EmailSend, EmailSent},
    template::{Rendered, Usage},
};

impl Handler for EmailSend {
    async fn run(mut self, context: &Context, services: &Services) -> Result<EmailSent, TaskError> {
        if let Some(usage) = self.template.take() {
            let made = make(&usage, services).await?;
            self.subject = Some(made.subject);
            self.text = made.text;
            self.html = made.html;
        }
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

/// What the door has tried already with the same version and values.
async fn make(usage: &Usage, services: &Services) -> Result<Rendered, TaskError> {
    let of = format!(
        "the template {}{}",
        usage.name,
        usage
            .version
            .map_or_else(String::new, |version| format!(", version {version},"))
    );
    let found = services.templates.get(&usage.name, usage.version).await;
    let template = found.map_err(|error| match error {
        NoTemplate::Unavailable => {
            let text = format!("{of} could not be read");
            TaskError::Retry(Failure::new("template_unavailable", text))
        }
        NoTemplate::Unusable(why) => {
            let text = format!("{of} can't be used: {why}");
            TaskError::Fail(Failure::new("template_unusable", text))
        }
    })?;
    // The errors may hold what the caller wrote.
    let rendered = template.render(usage.locale.as_deref(), &usage.variables);
    rendered.map_err(|_| {
        let text = format!("no mail can be made of {of} and these values");
        TaskError::Fail(Failure::new("template_unusable", text))
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
