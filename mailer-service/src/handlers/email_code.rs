//! `email.code`: makes the code, and the mail around it, at the last moment.

use super::{
    Context, Handler, Services,
    email_send::{check_suppressions, find_template, verdict},
};
use crate::{
    smtp::Outgoing,
    task::{Failure, TaskError},
};
use shared::{
    address::Mailbox,
    category::Category,
    kinds::{EmailCode, EmailSend, EmailSent, email_code},
    suppression::About,
    template::Rendered,
    verification::{Form, MAGIC_PATH, NOT_ME_PATH, NotMe, Subject},
};
use std::collections::BTreeMap;

impl Handler for EmailCode {
    async fn run(self, context: &Context, services: &Services) -> Result<EmailSent, TaskError> {
        let about = About {
            category: Category::Security,
            purpose: Some(&self.purpose),
        };
        check_suppressions(&self.recipient, about, services).await?;
        let made = make(&self, services).await?;
        let mail = EmailSend {
            recipient: Some(self.recipient.clone()),
            from: self.from.clone(),
            to: vec![Mailbox::from(self.recipient.clone())],
            cc: Vec::new(),
            reply_to: Vec::new(),
            subject: Some(made.subject),
            template: None,
            text: made.text,
            html: made.html,
            headers: BTreeMap::new(),
            attachments: Vec::new(),
            category: Category::Security,
            metadata: BTreeMap::new(),
            content_removed: false,
            message_id: None,
        };
        let outgoing = Outgoing {
            task_id: context.task,
            mail: &mail,
            files: &[],
            not_before: context.run_at,
            permit: context,
        };
        services
            .mail
            .send(&outgoing, context.deadline)
            .await
            .map_err(|error| verdict(&error, Some(&self.recipient)))
    }
}

async fn make(code: &EmailCode, services: &Services) -> Result<Rendered, TaskError> {
    let park = |text: &str| TaskError::Park(Failure::new("not_configured", text));
    let links = &services.links;
    let pepper = links.peppers.find(&code.pepper);
    let pepper = pepper.ok_or_else(|| {
        park(
            "the worker that got it lacks the secret (secrets.peppers) that the code was made with",
        )
    })?;
    let recipient = code.recipient.canonical();
    let subject = Subject {
        verification: code.verification,
        purpose: &code.purpose,
        recipient: &recipient,
        generation: code.generation,
        form: code.form,
    };
    let proof = subject.proof(pepper);
    let proof = match (code.form, &links.public_url) {
        (Form::Link, None) => return Err(park("the worker that got it lacks http.public_url")),
        (Form::Link, Some(url)) => format!("{url}{MAGIC_PATH}{proof}"),
        _ => proof,
    };
    let not_me = NotMe {
        verification: code.verification,
        recipient,
        purpose: code.purpose.clone(),
    };
    let token = not_me.token(&links.peppers);
    let not_me = links.public_url.as_ref().zip(token);
    let not_me = not_me.map(|(url, token)| format!("{url}{NOT_ME_PATH}{token}"));
    let template = find_template(&code.template, code.version, services).await?;
    let is_known = |name: &str| template.content().variables.contains_key(name);
    let values = email_code::values(
        &code.variables,
        code.form,
        &proof,
        not_me.as_deref(),
        is_known,
    );
    // The errors may hold the code.
    let rendered = template.render(code.locale.as_deref(), &values);
    rendered.map_err(|_| {
        let text = format!("no mail can be made of the template {}", code.template);
        TaskError::Fail(Failure::new("template_unusable", text))
    })
}
