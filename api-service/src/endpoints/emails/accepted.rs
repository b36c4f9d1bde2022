//! A mail that can be sent: its copies, the tasks that they become, and what is answered.

use super::{
    EmailRequest, Mail,
    attachments::{self, Part},
    copies::copies,
};
use crate::{
    app::AppState,
    auth::Caller,
    endpoints::{
        tasks::resource::Links,
        terms::{Asked, Terms},
    },
    intake::{NewTask, Refusal, TimeLimits},
    problem::Problem,
};
use chrono::{DateTime, SubsecRound, Utc};
use serde::Serialize;
use shared::{
    address::EmailAddress,
    fields::FieldError,
    kinds::{self, EmailSend, Kind},
    suppression::About,
    task::{OnWorkerLost, Status, TaskId},
};
use std::collections::HashSet;

/// The tasks of an accepted mail.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = AcceptedEmail)]
pub struct EmailAnswer<'a> {
    /// The first task's id.
    #[schema(value_type = uuid::Uuid)]
    id: TaskId,
    /// One for each recipient: those of `to`, then `cc`, then `bcc`, each address once.
    tasks: Vec<RecipientTask<'a>>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = RecipientTask)]
pub struct RecipientTask<'a> {
    #[schema(value_type = uuid::Uuid)]
    id: TaskId,
    #[schema(value_type = String, example = "ada@example.com")]
    recipient: &'a EmailAddress,
    status: Status,
    /// `true`: the recipient gets no such mails (`/suppressions`), and nothing is sent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    suppressed: bool,
    links: Links,
}

impl EmailAnswer<'_> {
    /// Of the first task.
    pub(super) fn location(&self) -> String {
        Links::of(self.id).this
    }
}

/// A mail that can be sent.
#[derive(Debug)]
pub(super) struct Accepted {
    copies: Vec<(TaskId, EmailSend)>,
    /// Of them, those whose recipients get no such mails.
    suppressed: HashSet<TaskId>,
    /// Until [`Accepted::with_files`].
    parts: Vec<Part>,
    content_ttl_s: Option<i32>,
    terms: Terms,
    on_worker_lost: OnWorkerLost,
    now: DateTime<Utc>,
}

impl Accepted {
    /// Checks everything that was asked for.
    pub(super) fn of(state: &AppState, asked: EmailRequest) -> Result<Self, Vec<FieldError>> {
        let now = Utc::now().trunc_subsecs(6);
        let mut errors = Vec::new();
        let categories = &state.config.mail.categories;
        let priority = i64::from(categories.priority(asked.category));
        let content_ttl_s = categories.content_ttl_s(asked.category);
        let terms = Asked {
            priority: asked.priority.or(Some(priority)),
            run_at: asked.run_at,
            delay: asked.delay,
            useful_until: asked.useful_until,
            tags: asked.tags.unwrap_or_default(),
            limit_key: asked.limit_key,
            result_ttl: asked.result_ttl,
        }
        .check(&state.config.limits, now, &mut errors);
        let mail = Mail {
            to: asked.to,
            cc: asked.cc,
            bcc: asked.bcc,
            from: asked.from,
            reply_to: asked.reply_to,
            subject: asked.subject,
            template: asked.template,
            text: asked.text,
            html: asked.html,
            headers: asked.headers,
            category: asked.category,
            metadata: asked.metadata,
        };
        let parts =
            attachments::check(asked.attachments, &state.config.files).unwrap_or_else(|wrong| {
                errors.extend(wrong);
                Vec::new()
            });
        match copies(mail, &state.defaults) {
            Ok(copies) if errors.is_empty() => Ok(Self {
                copies,
                suppressed: HashSet::new(),
                parts,
                content_ttl_s,
                terms,
                on_worker_lost: asked.on_worker_lost.unwrap_or(OnWorkerLost::Retry),
                now,
            }),
            Ok(_) => Err(errors),
            Err(mut wrong) => {
                wrong.append(&mut errors);
                Err(wrong)
            }
        }
    }

    /// A mail with that tag, of which nothing else was said.
    pub(super) fn plain(state: &AppState, mail: Mail, tag: &str) -> Result<Self, Vec<FieldError>> {
        let now = Utc::now().trunc_subsecs(6);
        let asked = Asked {
            tags: vec![tag.to_owned()],
            ..Asked::default()
        };
        Ok(Self {
            terms: asked.check(&state.config.limits, now, &mut Vec::new()),
            copies: copies(mail, &state.defaults)?,
            suppressed: HashSet::new(),
            parts: Vec::new(),
            content_ttl_s: None,
            on_worker_lost: OnWorkerLost::Retry,
            now,
        })
    }

    /// Puts the attachments where workers find them. The inner error names fields of the request.
    pub(super) async fn with_files(
        mut self,
        state: &AppState,
    ) -> Result<Result<Self, Vec<FieldError>>, Problem> {
        let parts = std::mem::take(&mut self.parts);
        let Some((_, mail)) = self.copies.first().filter(|_| !parts.is_empty()) else {
            return Ok(Ok(self));
        };
        let texts = [&mail.text, &mail.html].into_iter().flatten();
        // In base64, which is the longest that they become.
        let texts: usize = texts.map(|text| text.len() * 3 / 2).sum();
        let attachments = match attachments::keep(state, parts, texts as u64).await? {
            Ok(attachments) => attachments,
            Err(errors) => return Ok(Err(errors)),
        };
        for (_, mail) in &mut self.copies {
            mail.attachments.clone_from(&attachments);
        }
        Ok(Ok(self))
    }

    /// Marks those whose recipients get no such mails.
    pub(super) async fn without_suppressed(mut self, state: &AppState) -> Self {
        let Some((_, first)) = self.copies.first() else {
            return self;
        };
        let about = About {
            category: first.category,
            purpose: None,
        };
        let recipients = self
            .copies
            .iter()
            .filter_map(|(_, mail)| mail.recipient.as_ref());
        let blocked = state.suppressions.among(recipients, about).await;
        let is_blocked = |mail: &EmailSend| {
            let recipient = mail.recipient.as_ref();
            recipient.is_some_and(|recipient| blocked.contains(recipient))
        };
        self.suppressed = self
            .copies
            .iter()
            .filter(|(_, mail)| is_blocked(mail))
            .map(|(id, _)| *id)
            .collect();
        self
    }

    pub(super) fn recipients(&self) -> usize {
        self.copies.len()
    }

    /// What is answered; none: it has no recipient.
    pub(super) fn answer(&self) -> Option<EmailAnswer<'_>> {
        let status = if self.terms.run_at.is_some_and(|run_at| run_at > self.now) {
            Status::Scheduled
        } else {
            Status::Pending
        };
        let tasks: Vec<_> = self
            .copies
            .iter()
            .filter_map(|(id, mail)| {
                let suppressed = self.suppressed.contains(id);
                Some(RecipientTask {
                    id: *id,
                    recipient: mail.recipient.as_ref()?,
                    status: if suppressed {
                        Status::Cancelled
                    } else {
                        status
                    },
                    suppressed,
                    links: Links::of(*id),
                })
            })
            .collect();
        Some(EmailAnswer {
            id: tasks.first()?.id,
            tasks,
        })
    }

    /// One task for each recipient.
    pub(super) fn tasks(
        self,
        caller: &Caller,
        traceparent: Option<&str>,
    ) -> Result<Vec<NewTask>, Problem> {
        let Self {
            copies,
            suppressed,
            parts: _,
            content_ttl_s,
            terms,
            on_worker_lost,
            now,
        } = self;
        let kind = kinds::find(EmailSend::NAME).ok_or_else(|| {
            Problem::internal(std::io::Error::other(
                "email.send is not in the list of kinds",
            ))
        })?;
        copies
            .into_iter()
            .map(|(id, mail)| {
                let refusal = suppressed.contains(&id).then_some(Refusal::SUPPRESSED);
                // What is to be removed at the end is not stored where that is now.
                let mail = if refusal.is_some() && content_ttl_s == Some(0) {
                    mail.without_content()
                } else {
                    mail
                };
                Ok(NewTask {
                    id,
                    kind,
                    queue: kind.queue,
                    priority: terms.priority,
                    payload: kinds::to_json(&mail).map_err(Problem::fields)?,
                    content_ttl_s,
                    files: mail
                        .attachments
                        .iter()
                        .map(|one| one.file.clone())
                        .collect(),
                    refusal,
                    max_attempts: kind.backoff.max_attempts,
                    time_limits: TimeLimits::default(),
                    on_worker_lost,
                    tags: terms.tags.clone(),
                    limit_key: terms.limit_key.clone(),
                    result_ttl_s: terms.result_ttl_s,
                    run_at: terms.run_at,
                    useful_until: terms.useful_until,
                    created_at: now,
                    created_by: caller.key_id,
                    traceparent: traceparent.map(str::to_owned),
                })
            })
            .collect()
    }
}
