//! Every problem of the table as a caller meets it.

use crate::support::{Answer, Api, LONG};
use api_service::{auth::Scope, problem::ProblemType};
use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
};
use testkit::harness::wait_until;

/// Shown elsewhere: by `operation` without a database, and by a unit test, since whoever could see a stopping
/// service refuse to store would have had to come before it stopped listening; by `key_limits`, and by the worker's tests.
const ELSEWHERE: [ProblemType; 12] = [
    ProblemType::DatabaseUnavailable,
    ProblemType::Stopping,
    ProblemType::RateLimited,
    ProblemType::QuotaExhausted,
    ProblemType::ReplayState,
    // By the worker's tests, which see the mails.
    ProblemType::UserExists,
    ProblemType::FilesUnavailable,
    ProblemType::WrongCode,
    ProblemType::VerificationOver,
    ProblemType::VerificationThrottled,
    ProblemType::VerificationLocked,
    ProblemType::InvalidReceipt,
];

fn raw(api: &Api, body: impl Into<reqwest::Body>) -> RequestBuilder {
    api.request(Method::POST, "/api/v1/tasks")
        .header("content-type", "application/json")
        .body(body)
}

/// A request with an Idempotency-Key.
fn keyed(api: &Api, key: &str, priority: u8) -> RequestBuilder {
    let body = json!({"kind": "demo.noop", "payload": {}, "priority": priority});
    api.request(Method::POST, "/api/v1/tasks")
        .header("idempotency-key", key)
        .json(&body)
}

/// Requests about mails, likewise.
fn of_mail(api: &Api, id: &str) -> Vec<(&'static str, RequestBuilder)> {
    let get = |path: &str| api.request(Method::GET, path);
    vec![
        (
            "verification-not-found",
            get(&format!("/api/v1/verifications/{id}")),
        ),
        (
            "not-configured",
            api.request(Method::POST, "/api/v1/verifications")
                .json(&json!({"recipient": "ada@example.com", "purpose": "login"})),
        ),
        ("user-not-found", get(&format!("/api/v1/users/{id}"))),
        (
            "suppression-not-found",
            get(&format!("/api/v1/suppressions/{id}")),
        ),
    ]
}

/// Requests and the problems that they meet.
fn requests(api: &Api, id: &str, reader: &str) -> Vec<(&'static str, RequestBuilder)> {
    let unkeyed = |key: &str| {
        api.client
            .get(format!("{}/api/v1/tasks", api.url))
            .header("authorization", key.to_owned())
    };
    let text = |content_type: &'static str| {
        api.request(Method::POST, "/api/v1/tasks")
            .header("content-type", content_type)
            .body("{}")
    };
    let get = |path: &str| api.request(Method::GET, path);
    vec![
        ("malformed-json", raw(api, "{\"kind\":")),
        ("malformed-json", raw(api, &b"{\"kind\":\"\xff\"}"[..])),
        (
            "malformed-json",
            raw(api, format!("{{\"payload\":{}", "[".repeat(1000))),
        ),
        ("empty-body", raw(api, "")),
        (
            "invalid-parameters",
            get("/api/v1/tasks?colour=red&limit=x"),
        ),
        (
            "invalid-parameters",
            get(&format!("/api/v1/tasks/{id}?wait=x")),
        ),
        ("invalid-header", keyed(api, "two words", 5)),
        (
            "missing-api-key",
            api.client.get(format!("{}/api/v1/tasks", api.url)),
        ),
        ("invalid-api-key", unkeyed("Bearer wr_nonsense")),
        (
            "insufficient-scope",
            api.client
                .post(format!("{}/api/v1/tasks", api.url))
                .bearer_auth(reader)
                .json(&json!({})),
        ),
        (
            "task-state",
            api.request(Method::POST, &format!("/api/v1/tasks/{id}/resolve"))
                .json(&json!({"as": "failed"})),
        ),
        ("not-found", get("/api/v1/nonsense")),
        ("not-found", get("/api/v1/tasks/")),
        ("not-found", get("/problems/nonsense")),
        (
            "task-not-found",
            get("/api/v1/tasks/01890000-0000-7000-8000-000000000001"),
        ),
        ("task-not-found", get("/api/v1/tasks/nonsense")),
        (
            "replay-not-found",
            get("/api/v1/replays/01890000-0000-7000-8000-000000000001"),
        ),
        ("replay-not-found", get("/api/v1/replays/nonsense")),
        (
            "method-not-allowed",
            api.request(Method::DELETE, "/api/v1/tasks"),
        ),
        ("method-not-allowed", api.request(Method::POST, "/health")),
        ("body-too-large", raw(api, " ".repeat(2001))),
        (
            "unsupported-media-type",
            api.request(Method::POST, "/api/v1/emails").body("{}"),
        ),
        ("unsupported-media-type", text("text/plain")),
        (
            "unsupported-media-type",
            text("application/json; charset=latin1"),
        ),
        ("invalid-fields", raw(api, "{\"colour\":1}")),
        (
            "unknown-kind",
            raw(api, "{\"kind\":\"demo.nope\",\"payload\":{}}"),
        ),
        ("idempotency-key-reused", keyed(api, "used", 6)),
        ("internal", keyed(api, "new", 1)),
        (
            "too-many-waiting",
            get(&format!("/api/v1/tasks/{id}?wait=1")),
        ),
        (
            "too-many-streams",
            get(&format!("/api/v1/tasks/{id}/events")),
        ),
    ]
}

#[tokio::test]
async fn the_whole_table() {
    let settings = [
        ("http.max_waiting", "0"),
        ("http.max_streams", "0"),
        ("accept.queue_capacity", "1"),
        ("accept.max_batch", "1"),
        ("http.max_body_bytes", "2000"),
    ];
    let api = Api::start_with("problems_table", &settings).await;
    let id = api.noop().await;
    let mut seen = BTreeSet::from(ELSEWHERE.map(ProblemType::slug).map(str::to_owned));
    assert_eq!(Answer::of(keyed(&api, "used", 5)).await.status, 202);
    // A cause inside the service, which the caller must not see.
    api.env
        .execute("alter table tasks add constraint secret check (priority <> 1)")
        .await;
    let reader = api.key_with(&[Scope::Read]).await;
    let all = requests(&api, &id, &reader).into_iter();
    let mails = of_mail(&api, &id);
    for (slug, request) in all.chain(mails).chain(unknown_names(&api)) {
        let answer = Answer::of(request).await;
        assert_eq!(answer.problem(), slug, "{answer:?}");
        check(&answer);
        seen.insert(slug.to_owned());
    }
    seen.insert(overloaded(&api).await);
    seen.insert(incomplete(&api).await);
    let all: BTreeSet<_> = ProblemType::ALL
        .iter()
        .map(|row| row.slug().to_owned())
        .collect();
    assert_eq!(seen, all);
    api.env
        .execute("alter table tasks drop constraint secret")
        .await;
    api.finish().await;
}

/// Queues, kinds, limits and workers that there are not.
fn unknown_names(api: &Api) -> [(&'static str, RequestBuilder); 5] {
    let call = |method, path: &str| api.request(method, &format!("/api/v1/{path}"));
    [
        ("queue-not-found", call(Method::POST, "queues/x/pause")),
        ("kind-not-found", call(Method::POST, "kinds/x/resume")),
        ("limit-not-found", call(Method::DELETE, "limits/key/x")),
        ("worker-not-found", call(Method::GET, "workers/x")),
        ("template-not-found", call(Method::GET, "templates/x")),
    ]
}

fn check(answer: &Answer) {
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    // The name of a configuration key is none.
    let text = answer.text.replace("secrets.peppers", "");
    assert!(
        !text.contains("secret") && !answer.text.contains("constraint"),
        "{}",
        answer.text
    );
    match answer.status {
        401 => assert!(answer.header("www-authenticate").starts_with("Bearer")),
        405 => assert!(answer.header("allow").contains("GET")),
        413 => assert!(answer.text.contains("http.max_body_bytes")),
        503 => assert!(answer.header("retry-after").parse::<u32>().is_ok()),
        _ => {}
    }
}

/// With the table locked one request is being stored and one waits; the others find no room.
async fn overloaded(api: &Api) -> String {
    let locked = api.env.execute("begin; lock table tasks in exclusive mode");
    locked.await;
    let body = json!({"kind": "demo.noop", "payload": {}});
    let requests =
        (0..6).map(|_| Answer::of(api.request(Method::POST, "/api/v1/tasks").json(&body)));
    let unlock = async {
        wait_until(LONG, "a request to be turned away", async || {
            let metrics = api.get("/metrics").await.text;
            metrics.contains("route=\"/tasks\",status=\"503\"")
        })
        .await;
        api.env.execute("commit").await;
    };
    let (answers, ()) = tokio::join!(join_all(requests), unlock);
    let (stored, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 202);
    assert!(!stored.is_empty() && !refused.is_empty());
    for answer in &refused {
        assert_eq!(answer.problem(), "overloaded");
        check(answer);
    }
    refused[0].problem()
}

/// A body whose encoding breaks off, which no HTTP library sends.
async fn incomplete(api: &Api) -> String {
    let address = api.url.strip_prefix("http://").unwrap().to_owned();
    let request = format!(
        "POST /api/v1/tasks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{{\"a\"\r\nzz\r\n",
        api.key
    );
    let talk = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = vec![0; 4000];
        let length = stream.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    let answer = tokio::task::spawn_blocking(talk).await.unwrap();
    assert!(answer.contains("/problems/incomplete-body"), "{answer}");
    "incomplete-body".to_owned()
}

#[tokio::test]
async fn a_request_keeps_its_own_id() {
    let api = Api::start("problems_request_id").await;
    let request = || api.request(Method::GET, "/api/v1/nonsense");
    let answer = Answer::of(request().header("x-request-id", "mine-1.2")).await;
    assert_eq!(answer.header("x-request-id"), "mine-1.2");
    assert_eq!(answer.json()["instance"], "urn:request:mine-1.2");
    let answer = Answer::of(request().header("x-request-id", "no good")).await;
    assert_eq!(answer.header("x-request-id").len(), 32);
    api.finish().await;
}
