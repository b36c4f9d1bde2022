//! What holds for every endpoint is said here once: keys, the problems that any request can meet, the table
//! of problems.

use crate::problem::{self, ProblemType};
use utoipa::{
    Modify,
    openapi::{
        ContentBuilder, HeaderBuilder, OpenApi, PathItem, Ref, RefOr, Response, ResponseBuilder,
        Schema,
        path::{Operation, Parameter, ParameterIn},
        schema::{Object, SchemaType, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

pub(super) struct Finish;

impl Modify for Finish {
    fn modify(&self, document: &mut OpenApi) {
        let mut bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        bearer.description =
            Some("An API key, `wr_…`, made with `api-service key create --name NAME`.".into());
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::Http(bearer));
        for (name, _, description) in COMMON {
            let mut response = problem_response(description);
            if name == "TooManyRequests" {
                let headers = LIMIT_HEADERS.map(|(name, description)| {
                    let header = HeaderBuilder::new().description(Some(description)).build();
                    (name.to_owned(), RefOr::T(header))
                });
                response.headers.extend(headers);
            }
            let response = RefOr::T(response);
            components.responses.insert(name.to_owned(), response);
        }
        let operations = document.paths.paths.values_mut().flat_map(operations);
        operations.for_each(finish);
        document
            .extensions
            .get_or_insert_default()
            .insert("x-problems".into(), problems());
    }
}

/// Name, status and description of the answers that many endpoints share.
const COMMON: [(&str, &str, &str); 8] = [
    (
        "Malformed",
        "400",
        "`malformed-json`, `empty-body`, `incomplete-body` or `invalid-header`",
    ),
    ("InvalidParameters", "400", "`invalid-parameters`"),
    (
        "Unauthorized",
        "401",
        "`missing-api-key` or `invalid-api-key`",
    ),
    ("Forbidden", "403", "`insufficient-scope`"),
    ("TooLarge", "413", "`body-too-large`"),
    ("UnsupportedMediaType", "415", "`unsupported-media-type`"),
    (
        "TooManyRequests",
        "429",
        "`rate-limited` or `quota-exhausted`, for keys with limits",
    ),
    ("Problem", "default", "Any other problem"),
];

/// Of every answer to a key with limits.
const LIMIT_HEADERS: [(&str, &str); 3] = [
    ("Retry-After", "Seconds until the request may succeed"),
    (
        "RateLimit-Policy",
        "What the key may do, e.g. `\"default\";q=100;w=2, \"daily\";q=100000;w=86400;warren-unit=\"tasks\"` (draft-ietf-httpapi-ratelimit-headers)",
    ),
    (
        "RateLimit",
        "What is left of it, e.g. `\"default\";r=12;t=1, \"daily\";r=99000;t=3600`. These two are in every answer to a key with limits",
    ),
];

fn problem_response(description: &str) -> Response {
    let schema = Ref::from_schema_name("Problem");
    ResponseBuilder::new()
        .description(description)
        .content(
            problem::CONTENT_TYPE,
            ContentBuilder::new().schema(Some(schema)).build(),
        )
        .build()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.post,
        &mut item.put,
        &mut item.patch,
        &mut item.delete,
    ]
    .into_iter()
    .flatten()
}

fn finish(operation: &mut Operation) {
    let parameters = operation.parameters.iter_mut().flatten();
    let parameters: Vec<&mut Parameter> = parameters
        .filter_map(|parameter| match parameter {
            RefOr::T(parameter) => Some(parameter),
            RefOr::Ref(_) => None,
        })
        .collect();
    let has_query = parameters
        .iter()
        .any(|one| one.parameter_in == ParameterIn::Query);
    // A parameter is there or not; it can't be null.
    parameters
        .into_iter()
        .filter_map(|parameter| parameter.schema.as_mut())
        .for_each(without_null);
    let has_body = operation.request_body.is_some();
    let is_open = operation.security.is_some();
    for (name, status, _) in COMMON {
        let applies = match name {
            "Unauthorized" | "TooManyRequests" => !is_open,
            // Figures about the service are for any key.
            "Forbidden" => !is_open && operation.operation_id.as_deref() != Some("getMetrics"),
            "InvalidParameters" => has_query,
            "Problem" => true,
            _ => has_body,
        };
        if applies {
            let response = RefOr::Ref(Ref::new(format!("#/components/responses/{name}")));
            operation
                .responses
                .responses
                .entry(status.to_owned())
                .or_insert(response);
        }
    }
}

fn without_null(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => plain_type(&mut object.schema_type),
        RefOr::T(Schema::Array(array)) => plain_type(&mut array.schema_type),
        RefOr::T(Schema::OneOf(one_of)) => {
            one_of.items.retain(|item| {
                !matches!(
                    item,
                    RefOr::T(Schema::Object(Object {
                        schema_type: SchemaType::Type(Type::Null),
                        ..
                    }))
                )
            });
            if let [only] = one_of.items.as_slice() {
                *schema = only.clone();
            }
        }
        RefOr::T(_) | RefOr::Ref(_) => {}
    }
}

fn plain_type(schema_type: &mut SchemaType) {
    if let SchemaType::Array(types) = schema_type {
        types.retain(|one| *one != Type::Null);
        if let [only] = types.as_slice() {
            *schema_type = SchemaType::Type(only.clone());
        }
    }
}

/// The table of problems, for whoever generates a client.
fn problems() -> serde_json::Value {
    ProblemType::ALL
        .iter()
        .map(|row| {
            serde_json::json!({
                "type": row.uri(), "status": row.status(), "title": row.title(), "help": row.help(),
            })
        })
        .collect()
}
