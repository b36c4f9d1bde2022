//! Looking at what a template makes, before anybody else does: on the screen, and in a mailbox.

use super::load;
use crate::{
    app::AppState,
    auth::{Reader, Submitter},
    endpoints::{
        emails::{self, Mail},
        request::{JsonBody, OptionalBody, parse},
        submit::IdempotencyKey,
    },
    problem::{Problem, ProblemSchema},
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::{
    address::Mailbox,
    fields::FieldError,
    template::{self, Compiled, Rendered},
};

/// What to make a mail of.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = TemplatePreview)]
pub struct PreviewRequest {
    /// When left out: the newest, which may be a draft.
    version: Option<i32>,
    /// When left out: the template's default.
    locale: Option<String>,
    /// When left out: the examples of the variables.
    #[schema(value_type = Option<Object>)]
    variables: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = TemplateTest)]
pub struct TestRequest {
    /// Who gets the mail.
    #[schema(value_type = String, example = "ada@example.com")]
    to: Mailbox,
    version: Option<i32>,
    locale: Option<String>,
    #[schema(value_type = Option<Object>)]
    variables: Option<Map<String, Value>>,
}

/// Makes a mail, and sends it to nobody.
#[utoipa::path(
    post,
    path = "/api/v1/templates/{name}/preview",
    tag = "Mail",
    operation_id = "previewTemplate",
    summary = "See what a template makes",
    description = "Needs the scope `read`.",
    params(("name" = String, Path, description = "The template's name")),
    request_body = Option<PreviewRequest>,
    responses(
        (status = 200, description = "The mail's texts", body = Rendered),
        (status = 404, description = "`template-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-fields`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn preview(
    state: Data<AppState>,
    _reader: Reader,
    name: Path<String>,
    body: OptionalBody,
) -> Result<HttpResponse, Problem> {
    let asked: PreviewRequest = match &body.0 {
        Some(body) => parse(body)?,
        None => PreviewRequest::default(),
    };
    let (_, compiled) = load(&state, name.into_inner(), asked.version).await?;
    let rendered = render(&compiled, asked.locale.as_deref(), asked.variables)?;
    Ok(HttpResponse::Ok().json(rendered))
}

/// Sends a mail as a trial.
#[utoipa::path(
    post,
    path = "/api/v1/templates/{name}/test",
    tag = "Mail",
    operation_id = "sendTemplateTest",
    summary = "Send what a template makes to yourself",
    description = "A mail like any other, with the tag `template-test`. Needs the scope `submit`.",
    params(
        ("name" = String, Path, description = "The template's name"),
        ("Idempotency-Key" = Option<String>, Header, description = "As for `POST /emails`"),
    ),
    request_body = TestRequest,
    responses(
        (status = 202, description = "Accepted", body = emails::EmailAnswer<'_>),
        (status = 404, description = "`template-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-fields`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn send_test(
    state: Data<AppState>,
    Submitter(caller): Submitter,
    name: Path<String>,
    request: HttpRequest,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    let idempotency = IdempotencyKey::of(&request, &caller, &body)?;
    let asked: TestRequest = parse(&body.0)?;
    let (_, compiled) = load(&state, name.into_inner(), asked.version).await?;
    let Rendered {
        subject,
        text,
        html,
        ..
    } = render(&compiled, asked.locale.as_deref(), asked.variables)?;
    let mail = Mail {
        to: vec![asked.to],
        subject: Some(subject),
        text,
        html,
        ..Mail::default()
    };
    emails::send(
        &state,
        &caller,
        &request,
        idempotency,
        mail,
        "template-test",
    )
    .await
}

fn render(
    compiled: &Compiled,
    locale: Option<&str>,
    variables: Option<Map<String, Value>>,
) -> Result<Rendered, Problem> {
    if locale.is_some_and(|locale| !template::is_locale(locale)) {
        let detail = "must be a language tag (BCP 47), e.g. en or zh-Hant";
        return Err(Problem::fields(vec![FieldError::new("/locale", detail)]));
    }
    let values = variables
        .or_else(|| compiled.examples())
        .unwrap_or_default();
    compiled.render(locale, &values).map_err(|errors| {
        let errors = errors.into_iter().map(|error| error.below("/variables"));
        Problem::fields(errors.collect())
    })
}
