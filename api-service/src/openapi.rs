//! The `OpenAPI` 3.1 document, made from the annotations of the endpoints.

mod finish;

use crate::{
    endpoints::{
        bounces, dead_letters, emails, files, health, kinds, limits, metrics, problems, queues,
        replays, suppressions,
        tasks::{
            self,
            events::{OutputEvent, RestartEvent, StateEvent},
        },
        templates, users, verifications, workers,
    },
    problem::ProblemSchema,
};
use finish::Finish;
use shared::kinds::{
    DemoCalculate, DemoNoop, DemoSleep, DemoStream, DemoUnreliable, EmailCode, EmailSend,
    EmailSent, HttpAnswered, HttpRequest,
};
use std::sync::LazyLock;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Warren",
        description = "A task engine and transactional mail: hand over work in one call, have a durable id back in a millisecond or two, and never lose or silently repeat it.\n\nEvery error is `application/problem+json` (RFC 9457), and every POST that hands over work takes an `Idempotency-Key`; what operators do can be repeated as it is. Every answer has an `X-Request-Id`; send your own and it is kept.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    paths(
        emails::create,
        emails::batch::create,
        emails::show::show,
        bounces::create,
        verifications::ask::create,
        verifications::ask::resend,
        verifications::check::check,
        verifications::check::receipt,
        verifications::show::show,
        verifications::show::statistics,
        files::upload,
        users::list,
        users::create::create,
        users::show,
        users::erase::delete,
        users::erase::show,
        suppressions::list,
        suppressions::create,
        suppressions::show,
        suppressions::delete,
        suppressions::transfer::import,
        suppressions::transfer::export,
        templates::list,
        templates::show,
        templates::put,
        templates::delete,
        templates::publish,
        templates::trial::preview,
        templates::trial::send_test,
        templates::versions,
        templates::show_version,
        tasks::create::create,
        tasks::list::list,
        tasks::show::show,
        tasks::events::follow,
        tasks::timeline::show,
        tasks::why::show,
        tasks::operate::reschedule,
        tasks::operate::cancel,
        tasks::operate::retry,
        tasks::operate::resolve,
        tasks::bulk::cancel,
        tasks::bulk::retry,
        dead_letters::list,
        queues::list,
        queues::pause,
        queues::resume,
        kinds::list,
        kinds::pause,
        kinds::resume,
        limits::list,
        limits::set,
        limits::remove,
        workers::list,
        workers::show,
        workers::drain,
        workers::resume,
        replays::list,
        replays::show,
        replays::stop,
        health::health,
        health::live,
        health::ready,
        metrics::show,
        problems::show,
    ),
    components(schemas(
        EmailSend, EmailCode, EmailSent, HttpRequest, HttpAnswered, DemoNoop, DemoCalculate, DemoUnreliable, DemoSleep, DemoStream,
        OutputEvent<'_>, RestartEvent, StateEvent<'_>, ProblemSchema
    )),
    tags(
        (name = "Mail", description = "Mails, each a task per recipient."),
        (name = "Verification", description = "Codes and links that prove that somebody reads an address."),
        (name = "Users", description = "People who have signed up."),
        (name = "Tasks", description = "Work of every kind."),
        (name = "Operation", description = "For those who run Warren."),
    ),
    security(("api_key" = [])),
    modifiers(&Finish),
)]
struct Document;

/// The document as it is served.
pub fn json() -> &'static str {
    static JSON: LazyLock<String> =
        LazyLock::new(|| Document::openapi().to_json().unwrap_or_default());
    &JSON
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn document() -> Value {
        serde_json::from_str(json()).unwrap()
    }

    #[test]
    fn the_endpoints_are_all_there() {
        let document = document();
        let operations: Vec<String> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().unwrap().keys();
                methods.map(move |method| format!("{} {path}", method.to_uppercase()))
            })
            .collect();
        insta::assert_snapshot!(operations.join("\n"), @"
        POST /api/v1/bounces
        GET /api/v1/dead-letters
        POST /api/v1/emails
        POST /api/v1/emails/batch
        GET /api/v1/emails/{id}
        GET /api/v1/erasures/{id}
        POST /api/v1/files
        GET /api/v1/health
        GET /api/v1/health/live
        GET /api/v1/health/ready
        GET /api/v1/kinds
        POST /api/v1/kinds/{kind}/pause
        POST /api/v1/kinds/{kind}/resume
        GET /api/v1/limits
        DELETE /api/v1/limits/{scope}/{name}
        PUT /api/v1/limits/{scope}/{name}
        GET /api/v1/metrics
        GET /api/v1/queues
        POST /api/v1/queues/{queue}/pause
        POST /api/v1/queues/{queue}/resume
        GET /api/v1/replays
        GET /api/v1/replays/{id}
        POST /api/v1/replays/{id}/stop
        GET /api/v1/suppressions
        POST /api/v1/suppressions
        GET /api/v1/suppressions/export
        POST /api/v1/suppressions/import
        DELETE /api/v1/suppressions/{id}
        GET /api/v1/suppressions/{id}
        GET /api/v1/tasks
        POST /api/v1/tasks
        POST /api/v1/tasks/cancel
        POST /api/v1/tasks/retry
        GET /api/v1/tasks/{id}
        PATCH /api/v1/tasks/{id}
        POST /api/v1/tasks/{id}/cancel
        GET /api/v1/tasks/{id}/events
        POST /api/v1/tasks/{id}/resolve
        POST /api/v1/tasks/{id}/retry
        GET /api/v1/tasks/{id}/timeline
        GET /api/v1/tasks/{id}/why
        GET /api/v1/templates
        DELETE /api/v1/templates/{name}
        GET /api/v1/templates/{name}
        PUT /api/v1/templates/{name}
        POST /api/v1/templates/{name}/preview
        POST /api/v1/templates/{name}/publish
        POST /api/v1/templates/{name}/test
        GET /api/v1/templates/{name}/versions
        GET /api/v1/templates/{name}/versions/{version}
        GET /api/v1/users
        POST /api/v1/users
        DELETE /api/v1/users/{id}
        GET /api/v1/users/{id}
        POST /api/v1/verifications
        POST /api/v1/verifications/receipts
        GET /api/v1/verifications/statistics
        GET /api/v1/verifications/{id}
        POST /api/v1/verifications/{id}/check
        POST /api/v1/verifications/{id}/resend
        GET /api/v1/workers
        GET /api/v1/workers/{id}
        POST /api/v1/workers/{id}/drain
        POST /api/v1/workers/{id}/resume
        GET /problems/{slug}
        ");
    }

    #[test]
    fn every_operation_names_its_problems() {
        let document = document();
        for item in document["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                let responses = operation["responses"].as_object().unwrap();
                let is_open = operation["security"] == serde_json::json!([{}]);
                assert!(responses.contains_key("default"));
                assert_eq!(responses.contains_key("401"), !is_open, "{operation}");
                assert_eq!(responses.contains_key("429"), !is_open, "{operation}");
                assert_eq!(
                    responses.contains_key("415"),
                    operation["requestBody"].is_object()
                );
            }
        }
        let problems = document["x-problems"].as_array().unwrap();
        assert_eq!(problems.len(), crate::problem::ProblemType::ALL.len());
    }
}
