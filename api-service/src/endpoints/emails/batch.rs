//! `POST /emails/batch`: many mails in one request, stored in one commit.

use super::{
    EmailRequest,
    accepted::{Accepted, EmailAnswer},
};
use crate::{
    app::AppState,
    auth::{Caller, Submitter},
    endpoints::{
        request::{JsonBody, parse, traceparent},
        submit::{IdempotencyKey, refusal, submit},
    },
    intake::{Answer, NewTask},
    problem::{Problem, ProblemSchema},
};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::fields::{self, FieldError};

/// Mails to be sent, each as in `POST /emails`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = NewEmailBatch)]
pub struct BatchRequest<'a> {
    #[serde(default)]
    mode: Mode,
    /// 1 to `limits.max_batch` (1000 by default); their recipients together are at most as many.
    #[serde(borrow)]
    #[schema(value_type = Vec<EmailRequest>)]
    emails: Vec<&'a RawValue>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = EmailBatchMode)]
pub enum Mode {
    /// All mails, or none where one of them has a mistake. What is meant when nothing is said.
    #[default]
    Strict,
    /// Those without a mistake.
    Partial,
}

/// What became of the mails, in their order.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = AcceptedEmailBatch)]
pub struct BatchAnswer<'a> {
    accepted: usize,
    rejected: usize,
    items: Vec<Item<'a>>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(tag = "status", rename_all = "lowercase")]
#[schema(as = EmailBatchItem)]
pub enum Item<'a> {
    Accepted(EmailAnswer<'a>),
    Rejected {
        /// By their pointers below the mail.
        errors: &'a [FieldError],
    },
}

type Checked = Result<Accepted, Vec<FieldError>>;

/// Accepts many mails.
#[utoipa::path(
    post,
    path = "/api/v1/emails/batch",
    tag = "Mail",
    operation_id = "createEmails",
    summary = "Send many mails",
    description = "Each as in `POST /emails`; all that are accepted are committed to disk together.",
    params(("Idempotency-Key" = Option<String>, Header, description = "As for `POST /emails`, for all of them together")),
    request_body = BatchRequest<'_>,
    responses(
        (status = 202, description = "Accepted; of `partial` those that say so", body = BatchAnswer<'_>),
        (status = 422, description = "`invalid-fields`: nothing was stored", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "As for `POST /emails`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn create(
    state: Data<AppState>,
    Submitter(caller): Submitter,
    request: HttpRequest,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    let idempotency = IdempotencyKey::of(&request, &caller, &body)?;
    let prepared = match check(&state, &body.0) {
        Ok((mode, checked)) => {
            let checked = with_files(&state, checked).await?;
            match judge(&state, mode, checked) {
                Ok(checked) => {
                    let checked = without_suppressed(&state, checked).await;
                    prepare(checked, &caller, traceparent(&request).as_deref())
                }
                Err(refusal) => Err(refusal),
            }
        }
        Err(refusal) => Err(refusal),
    };
    match prepared {
        Ok((tasks, answer)) => submit(&state, &caller, idempotency, tasks, answer).await,
        Err(refusal) => IdempotencyKey::earlier_or(idempotency, &state, refusal).await,
    }
}

/// One outcome for each mail.
fn check(state: &AppState, body: &[u8]) -> Result<(Mode, Vec<Checked>), Problem> {
    let asked: BatchRequest<'_> = parse(body)?;
    let most = state.config.limits.max_batch;
    if !(1..=most).contains(&asked.emails.len()) {
        let detail = format!("must be 1 to {most} (limits.max_batch)");
        return Err(Problem::fields(vec![FieldError::new("/emails", detail)]));
    }
    let checked: Vec<Checked> = asked.emails.iter().map(|mail| one(state, mail)).collect();
    let recipients: usize = checked
        .iter()
        .filter_map(|one| one.as_ref().ok().map(Accepted::recipients))
        .sum();
    if recipients > most {
        let detail = format!(
            "go to {recipients} recipients together, more than the {most} allowed (limits.max_batch)"
        );
        return Err(Problem::fields(vec![FieldError::new("/emails", detail)]));
    }
    // Before files are stored for nothing.
    judge(state, asked.mode, checked).map(|checked| (asked.mode, checked))
}

/// A refusal where none of them is to be stored.
fn judge(state: &AppState, mode: Mode, checked: Vec<Checked>) -> Result<Vec<Checked>, Problem> {
    let is_refused = match mode {
        Mode::Strict => checked.iter().any(Result::is_err),
        Mode::Partial => checked.iter().all(Result::is_err),
    };
    if !is_refused {
        return Ok(checked);
    }
    let named = checked.into_iter().enumerate().flat_map(|(at, one)| {
        let errors = one.err().unwrap_or_default().into_iter();
        errors.map(move |error| error.below(&format!("/emails/{at}")))
    });
    Err(refusal(state, named.collect()))
}

fn one(state: &AppState, mail: &RawValue) -> Checked {
    let asked: EmailRequest = fields::parse(mail.get().as_bytes()).map_err(|error| vec![error])?;
    Accepted::of(state, asked)
}

async fn with_files(state: &AppState, checked: Vec<Checked>) -> Result<Vec<Checked>, Problem> {
    let mut all = Vec::with_capacity(checked.len());
    for one in checked {
        all.push(match one {
            Ok(accepted) => accepted.with_files(state).await?,
            Err(errors) => Err(errors),
        });
    }
    Ok(all)
}

async fn without_suppressed(state: &AppState, checked: Vec<Checked>) -> Vec<Checked> {
    let mut all = Vec::with_capacity(checked.len());
    for one in checked {
        all.push(match one {
            Ok(accepted) => Ok(accepted.without_suppressed(state).await),
            Err(errors) => Err(errors),
        });
    }
    all
}

fn prepare(
    checked: Vec<Checked>,
    caller: &Caller,
    traceparent: Option<&str>,
) -> Result<(Vec<NewTask>, Answer), Problem> {
    let items = checked.iter().map(|one| match one {
        Ok(accepted) => accepted
            .answer()
            .map_or(Item::Rejected { errors: &[] }, Item::Accepted),
        Err(errors) => Item::Rejected { errors },
    });
    let accepted = checked.iter().filter(|one| one.is_ok()).count();
    let shown = BatchAnswer {
        accepted,
        rejected: checked.len() - accepted,
        items: items.collect(),
    };
    let answer = Answer {
        status: 202,
        location: None,
        body: serde_json::to_string(&shown).map_err(Problem::internal)?,
    };
    drop(shown);
    let mut tasks = Vec::new();
    for accepted in checked.into_iter().flatten() {
        tasks.extend(accepted.tasks(caller, traceparent)?);
    }
    Ok((tasks, answer))
}
