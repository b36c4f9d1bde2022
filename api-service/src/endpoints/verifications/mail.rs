//! What the mail of a code is made of, and its task.

use super::{ask::Order, not_configured};
use crate::{
    app::AppState,
    intake::{NewTask, TimeLimits},
    problem::{Problem, ProblemType},
    queries::verifications::Row,
};
use chrono::{SubsecRound, Utc};
use serde_json::{Map, Value, json};
use shared::{
    address::{EmailAddress, Mailbox},
    category::Category,
    kinds::{self, EmailCode, Kind, email_code},
    task::{OnWorkerLost, Priority, TaskId},
    template::Published,
    verification::Form,
};
use uuid::Uuid;

/// The template of that name, as configured, and a sender.
pub(in crate::endpoints) fn template(state: &AppState, name: &str) -> Result<Published, Problem> {
    if state.defaults.from.is_none() {
        return Err(not_configured("mail.default_from"));
    }
    state.defaults.templates.find(name).ok_or_else(|| {
        if state.templates.are_known() {
            not_configured(&format!("a published template named {name}"))
        } else {
            Problem::new(ProblemType::DatabaseUnavailable)
                .detail("The templates could not be read yet.")
        }
    })
}

/// What the mail is made of.
pub(super) struct Mail {
    template: String,
    version: Option<i32>,
    from: Option<Mailbox>,
    variables: Map<String, Value>,
}

impl Mail {
    /// With a template that can be used, which is tried here.
    pub(super) fn of(state: &AppState, order: &Order) -> Result<Self, Problem> {
        let policy = &state.config.verification;
        let name = match order.form {
            Form::Link => &policy.link_template,
            _ => &policy.code_template,
        };
        let published = template(state, name)?;
        let mut variables = Map::new();
        variables.insert("minutes".into(), json!(policy.ttl_s.div_ceil(60)));
        let product = &state.config.mail.product;
        if !product.is_empty() {
            variables.insert("product".into(), json!(product));
        }
        if published.version.is_some() {
            variables.insert("purpose".into(), json!(order.purpose));
        }
        let mail = Self {
            template: name.clone(),
            version: published.version,
            from: state.defaults.from.clone(),
            variables,
        };
        let proof = match order.form {
            Form::Link => "https://example.com/",
            _ => "000000",
        };
        let content = published.template.content();
        let is_known = |name: &str| content.variables.contains_key(name);
        let values = email_code::values(&mail.variables, order.form, proof, None, is_known);
        match published.template.render(order.locale.as_deref(), &values) {
            Ok(_) => Ok(mail),
            Err(_) => Err(not_configured(&format!(
                "a template {name} that needs no other variables than code or url, minutes, product, purpose and not_me_url"
            ))),
        }
    }

    pub(super) fn task(
        &self,
        row: &Row,
        state: &AppState,
        caller: Uuid,
        traceparent: Option<&str>,
    ) -> Option<NewTask> {
        let kind = kinds::find(EmailCode::NAME)?;
        let payload = EmailCode {
            verification: row.id,
            pepper: row.pepper.clone(),
            generation: row.generation,
            form: row.form(),
            purpose: row.purpose.clone(),
            recipient: EmailAddress::parse(&row.recipient).ok()?,
            from: self.from.clone(),
            category: Category::Security,
            template: self.template.clone(),
            version: self.version,
            locale: row.locale.clone(),
            variables: self.variables.clone(),
        };
        let categories = &state.config.mail.categories;
        Some(NewTask {
            id: TaskId(row.task_id),
            kind,
            queue: kind.queue,
            priority: Priority::new(categories.priority(Category::Security))?,
            payload: kinds::to_json(&payload).ok()?,
            content_ttl_s: None,
            files: Vec::new(),
            refusal: None,
            max_attempts: kind.backoff.max_attempts,
            time_limits: TimeLimits::default(),
            on_worker_lost: OnWorkerLost::Retry,
            tags: Vec::new(),
            limit_key: None,
            result_ttl_s: None,
            run_at: None,
            useful_until: Some(row.expires_at),
            created_at: Utc::now().trunc_subsecs(6),
            created_by: caller,
            traceparent: traceparent.map(str::to_owned),
        })
    }
}
