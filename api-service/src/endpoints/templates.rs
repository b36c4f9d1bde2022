//! `/templates`: what mails are made of. A draft is stored, looked at, and published; mails get the published version, and
//! an earlier one is published again to go back.

pub mod resource;
pub mod trial;

use super::request::{JsonBody, OptionalBody, parse};
use crate::{
    app::{AppState, Endpoint},
    auth::{Operator, Reader},
    problem::{Problem, ProblemSchema, ProblemType},
    queries::templates,
};
use actix_web::{
    HttpResponse,
    web::{Data, Path, ServiceConfig},
};
use resource::{State, TemplateList, TemplateResource, VersionList};
use serde::Deserialize;
use shared::{
    fields::FieldError,
    template::{Compiled, Content, builtin},
};
use trial::{preview, send_test};

const LONGEST_NAME: usize = 64;
const LONGEST_DESCRIPTION: usize = 500;
/// Versions that are listed.
const VERSIONS: i64 = 100;

pub fn configure(app: &mut ServiceConfig) {
    app.service(Endpoint::at("/templates").get(list).build())
        .service(
            Endpoint::at("/templates/{name}")
                .get(show)
                .put(put)
                .delete(delete)
                .build(),
        )
        .service(
            Endpoint::at("/templates/{name}/publish")
                .post(publish)
                .build(),
        )
        .service(
            Endpoint::at("/templates/{name}/preview")
                .post(preview)
                .build(),
        )
        .service(
            Endpoint::at("/templates/{name}/test")
                .post(send_test)
                .build(),
        )
        .service(
            Endpoint::at("/templates/{name}/versions")
                .get(versions)
                .build(),
        )
        .service(
            Endpoint::at("/templates/{name}/versions/{version}")
                .get(show_version)
                .build(),
        );
}

/// A template to be stored.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = NewTemplate)]
pub struct TemplateRequest {
    /// For people.
    #[schema(max_length = 500)]
    description: Option<String>,
    content: Content,
}

#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct PublishRequest {
    /// When left out: the newest.
    #[schema(minimum = 1)]
    version: Option<i32>,
}

/// All templates.
#[utoipa::path(
    get,
    path = "/api/v1/templates",
    tag = "Mail",
    operation_id = "listTemplates",
    summary = "List templates",
    description = "By name, those that Warren brings among them. Needs the scope `read`.",
    responses((status = 200, description = "All of them", body = TemplateList))
)]
pub async fn list(state: Data<AppState>, _reader: Reader) -> Result<HttpResponse, Problem> {
    let rows = state.pool.run(templates::list).await?;
    Ok(HttpResponse::Ok().json(TemplateList::of(rows)))
}

/// Shows a template.
#[utoipa::path(
    get,
    path = "/api/v1/templates/{name}",
    tag = "Mail",
    operation_id = "getTemplate",
    summary = "Show a template",
    description = "Its newest version, which may be a draft. Needs the scope `read`.",
    params(("name" = String, Path, description = "The template's name")),
    responses(
        (status = 200, description = "The template", body = TemplateResource),
        (status = 404, description = "`template-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    state: Data<AppState>,
    _reader: Reader,
    name: Path<String>,
) -> Result<HttpResponse, Problem> {
    let (template, _) = load(&state, name.into_inner(), None).await?;
    Ok(HttpResponse::Ok().json(template))
}

/// Shows one version.
#[utoipa::path(
    get,
    path = "/api/v1/templates/{name}/versions/{version}",
    tag = "Mail",
    operation_id = "getTemplateVersion",
    summary = "Show one version of a template",
    description = "Needs the scope `read`.",
    params(
        ("name" = String, Path, description = "The template's name"),
        ("version" = i32, Path, description = "The version's number"),
    ),
    responses(
        (status = 200, description = "The version", body = TemplateResource),
        (status = 404, description = "`template-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn show_version(
    state: Data<AppState>,
    _reader: Reader,
    path: Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (name, version) = path.into_inner();
    let version = version.parse().map_err(|_| not_found())?;
    let (template, _) = load(&state, name, Some(version)).await?;
    Ok(HttpResponse::Ok().json(template))
}

/// Lists the versions of a template.
#[utoipa::path(
    get,
    path = "/api/v1/templates/{name}/versions",
    tag = "Mail",
    operation_id = "listTemplateVersions",
    summary = "List the versions of a template",
    description = "The newest 100, newest first. Needs the scope `read`.",
    params(("name" = String, Path, description = "The template's name")),
    responses(
        (status = 200, description = "The versions", body = VersionList),
        (status = 404, description = "`template-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn versions(
    state: Data<AppState>,
    _reader: Reader,
    name: Path<String>,
) -> Result<HttpResponse, Problem> {
    let name = name.into_inner();
    let found = state
        .pool
        .run(move |connection| {
            let Some(template) = templates::find(connection, &name)? else {
                return Ok(None);
            };
            let versions = templates::versions(connection, &name, VERSIONS)?;
            Ok(Some((template, versions)))
        })
        .await?;
    let (template, versions) = found.ok_or_else(not_found)?;
    Ok(HttpResponse::Ok().json(VersionList::of(&template, versions)))
}

/// Stores a draft.
#[utoipa::path(
    put,
    path = "/api/v1/templates/{name}",
    tag = "Mail",
    operation_id = "putTemplate",
    summary = "Store a draft of a template",
    description = "Replaces the draft, or begins a new version; mails get the published one as before. Every text is checked, and tried where the variables have examples. Needs the scope `operate`.",
    params(("name" = String, Path, description = "1 to 64 lower-case letters, digits, `.`, `_` and `-`; not beginning with `warren.`")),
    request_body = TemplateRequest,
    responses(
        (status = 200, description = "The draft was stored", body = TemplateResource),
        (status = 201, description = "The template is new", body = TemplateResource),
        (status = 404, description = "`template-not-found`: it can't have this name", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-fields`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn put(
    state: Data<AppState>,
    Operator(caller): Operator,
    name: Path<String>,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    let name = own_name(name.into_inner())?;
    let TemplateRequest {
        description,
        content,
    } = parse(&body.0)?;
    let mut errors = Vec::new();
    if description
        .as_ref()
        .is_some_and(|text| text.len() > LONGEST_DESCRIPTION || text.contains('\0'))
    {
        let detail = format!("must be at most {LONGEST_DESCRIPTION} bytes, without NUL");
        errors.push(FieldError::new("/description", detail));
    }
    let stored = serde_json::to_value(&content).map_err(Problem::internal)?;
    if let Err(wrong) = Compiled::new(content, state.templates.limits()) {
        errors.extend(wrong.into_iter().map(|error| error.below("/content")));
    }
    if !errors.is_empty() {
        return Err(Problem::fields(errors));
    }
    let most = state.config.mail.max_templates.into();
    let put = {
        let name = name.clone();
        state.pool.run(move |connection| {
            let description = description.as_deref();
            templates::put(connection, &name, description, &stored, most, &caller)
        })
    };
    let Some(is_new) = put.await? else {
        let detail = format!("there are {most} templates already (mail.max_templates)");
        return Err(Problem::fields(vec![FieldError::new("", detail)]));
    };
    let (template, _) = load(&state, name, None).await?;
    let mut answer = if is_new {
        HttpResponse::Created()
    } else {
        HttpResponse::Ok()
    };
    Ok(answer.json(template))
}

/// Publishes a version.
#[utoipa::path(
    post,
    path = "/api/v1/templates/{name}/publish",
    tag = "Mail",
    operation_id = "publishTemplate",
    summary = "Publish a version of a template",
    description = "Mails that are accepted from now on get it, at other replicas within two seconds; those accepted before keep theirs. An earlier version is published again to go back. A published version never changes. Needs the scope `operate`.",
    params(("name" = String, Path, description = "The template's name")),
    request_body = Option<PublishRequest>,
    responses(
        (status = 200, description = "It is published", body = TemplateResource),
        (status = 404, description = "`template-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-fields`: this version of Warren can't use it", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn publish(
    state: Data<AppState>,
    Operator(caller): Operator,
    name: Path<String>,
    body: OptionalBody,
) -> Result<HttpResponse, Problem> {
    let name = own_name(name.into_inner())?;
    let PublishRequest { version } = match &body.0 {
        Some(body) => parse(body)?,
        None => PublishRequest::default(),
    };
    let (found, _) = load(&state, name.clone(), version).await?;
    let version = found.version.ok_or_else(not_found)?;
    let published = {
        let name = name.clone();
        state
            .pool
            .run(move |connection| templates::publish(connection, &name, version, &caller))
    };
    if !published.await? {
        return Err(not_found());
    }
    state.templates.read().await?;
    let (template, _) = load(&state, name, Some(version)).await?;
    Ok(HttpResponse::Ok().json(template))
}

/// Deletes a template.
#[utoipa::path(
    delete,
    path = "/api/v1/templates/{name}",
    tag = "Mail",
    operation_id = "deleteTemplate",
    summary = "Delete a template",
    description = "Mails that were accepted with it are sent all the same. Needs the scope `operate`.",
    params(("name" = String, Path, description = "The template's name")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "`template-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn delete(
    state: Data<AppState>,
    Operator(caller): Operator,
    name: Path<String>,
) -> Result<HttpResponse, Problem> {
    let name = own_name(name.into_inner())?;
    let deleted = state
        .pool
        .run(move |connection| templates::delete(connection, &name, &caller))
        .await?;
    if !deleted {
        return Err(not_found());
    }
    state.templates.read().await?;
    Ok(HttpResponse::NoContent().finish())
}

fn not_found() -> Problem {
    Problem::new(ProblemType::TemplateNotFound)
}

/// A name that others than Warren may give.
fn own_name(name: String) -> Result<String, Problem> {
    let is_sign = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    let has_form = (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_sign);
    if has_form && !name.starts_with(builtin::PREFIX) {
        return Ok(name);
    }
    Err(not_found().detail(format!(
        "Names are 1 to {LONGEST_NAME} lower-case letters, digits, '.', '_' and '-'; those that begin with {} are Warren's own.",
        builtin::PREFIX
    )))
}

/// A version, the newest when none is named, and what it is made into.
async fn load(
    state: &AppState,
    name: String,
    version: Option<i32>,
) -> Result<(TemplateResource, Compiled), Problem> {
    if let Some(own) = builtin::all().iter().find(|own| own.name == name) {
        let content = own.template.content().clone();
        let compiled = compile(state, content.clone())?;
        return Ok((TemplateResource::built_in(own, content), compiled));
    }
    let found = state
        .pool
        .run(move |connection| {
            let Some(template) = templates::find(connection, &name)? else {
                return Ok(None);
            };
            let version = match version {
                Some(version) => templates::version(connection, &name, version)?,
                None => templates::versions(connection, &name, 1)?.pop(),
            };
            Ok(version.map(|version| (template, version)))
        })
        .await?;
    let (template, version) = found.ok_or_else(not_found)?;
    let content: Content =
        serde_json::from_value(version.content.clone()).map_err(Problem::internal)?;
    let compiled = compile(state, content.clone())?;
    let shown = State::of(&template, &version);
    Ok((
        TemplateResource::stored(template, version, content, shown),
        compiled,
    ))
}

fn compile(state: &AppState, content: Content) -> Result<Compiled, Problem> {
    Compiled::new(content, state.templates.limits()).map_err(|errors| {
        let errors = errors.into_iter().map(|error| error.below("/content"));
        Problem::fields(errors.collect())
    })
}
