//! `http.request` from the API to somebody's endpoint and back.

use crate::world::World;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use testkit::endpoint::{Endpoint, Reply, Request};

const NEW: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// With leave to call 127.0.0.1 and two signing secrets, as in the middle of a rotation.
async fn world(name: &str) -> World {
    let secrets = format!("{NEW} {OLD}");
    let settings = [
        ("outbound.allow", "127.0.0.1"),
        ("outbound.secrets.default", secrets.as_str()),
    ];
    started(name, &settings).await
}

async fn started(name: &str, settings: &[(&str, &str)]) -> World {
    let mut world = World::without_mailer(name, settings).await;
    world.start_mailer();
    world
}

fn task(payload: &Value) -> Value {
    json!({"kind": "http.request", "payload": payload})
}

/// HMAC by RFC 2104, apart from the code under test.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = Sha256::new()
        .chain_update(block.map(|b| b ^ 0x36))
        .chain_update(message)
        .finalize();
    let outer = Sha256::new()
        .chain_update(block.map(|b| b ^ 0x5c))
        .chain_update(inner)
        .finalize();
    outer.to_vec()
}

/// As a receiver does it who knows one secret.
fn is_signed_by(request: &Request, secret: &str) -> bool {
    let key = BASE64_STANDARD
        .decode(secret.strip_prefix("whsec_").unwrap())
        .unwrap();
    let header = |name| request.header(name).unwrap();
    let mut message =
        format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).into_bytes();
    message.extend(&request.body);
    let expected = format!("v1,{}", BASE64_STANDARD.encode(hmac(&key, &message)));
    header("webhook-signature")
        .split(' ')
        .any(|one| one == expected)
}

fn seconds(request: &Request) -> i64 {
    request
        .header("webhook-timestamp")
        .unwrap()
        .parse()
        .unwrap()
}

/// No secret, no part of the URL beyond its host, nothing of the body.
async fn assert_nothing_leaks(world: &World, hidden: &[&str]) {
    let mut shown = Vec::new();
    for query in [
        "select id, result, error_code, error_message, progress from tasks",
        "select * from task_attempts",
        "select * from outbox",
    ] {
        shown.extend(world.env.rows(query).await);
    }
    let shown = format!("{shown:?}");
    for secret in hidden.iter().chain(&["whsec_", "MfKQ9r8G", "C2FVsBQI"]) {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
}

#[tokio::test]
async fn a_call_is_signed_and_its_answer_kept() {
    let world = world("http_signed").await;
    let endpoint = Endpoint::start().await.unwrap();
    endpoint.reply([Reply::body(r#"{"ok":true}"#)
        .with("content-type", "application/json")
        .with("set-cookie", "a=b")]);
    let id = world
        .accept(&task(&json!({
            "url": endpoint.url("/hooks/orders?token=t0p"),
            "headers": {"X-Tenant": "acme"},
            "body": {"order": 4711, "note": "für Ada"},
        })))
        .await;
    let done = world.wait_for(&id, "COMPLETED").await;
    let result = &done["result"];
    assert_eq!(result["status"], 200);
    assert_eq!(result["body"], r#"{"ok":true}"#);
    assert_eq!(result["body_encoding"], "utf8");
    assert_eq!(
        result["headers"],
        json!({"content-type": "application/json"})
    );
    assert_eq!(
        (&result["truncated"], &result["signed_by"]),
        (&json!(false), &json!("default"))
    );

    let request = endpoint.requests().remove(0);
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("POST", "/hooks/orders?token=t0p")
    );
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("x-tenant"), Some("acme"));
    assert_eq!(request.header("webhook-id"), Some(id.as_str()));
    assert_eq!(request.header("idempotency-key"), Some(id.as_str()));
    assert!((chrono::Utc::now().timestamp() - seconds(&request)).abs() < 60);
    assert!(is_signed_by(&request, NEW) && is_signed_by(&request, OLD));
    assert!(!is_signed_by(
        &request,
        "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    ));
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["note"], "für Ada");
    assert_nothing_leaks(&world, &["t0p", "Ada"]).await;
    world.finish().await;
}

#[tokio::test]
async fn a_failing_endpoint_is_called_again_under_the_same_id() {
    let world = world("http_retry").await;
    let endpoint = Endpoint::start().await.unwrap();
    endpoint.reply([Reply::status(500)]);
    let id = world
        .accept(&task(
            &json!({"url": endpoint.url("/x?token=t0p"), "text": "personal"}),
        ))
        .await;
    let done = world.wait_for(&id, "COMPLETED").await;
    assert_eq!(done["attempt"], 2);
    let [first, second] = <[_; 2]>::try_from(endpoint.requests()).unwrap();
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    assert!(seconds(&second) > seconds(&first));
    assert!(is_signed_by(&first, NEW) && is_signed_by(&second, NEW));
    let attempt = world
        .env
        .rows("select * from task_attempts")
        .await
        .remove(0);
    assert_eq!(attempt["error_code"], "http_status");
    assert_eq!(
        attempt["error_message"],
        "127.0.0.1: answered 500 Internal Server Error"
    );
    assert_nothing_leaks(&world, &["t0p", "personal"]).await;
    world.finish().await;
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let world = world("http_429").await;
    let endpoint = Endpoint::start().await.unwrap();
    endpoint.reply([Reply::status(429).with("retry-after", "3")]);
    let id = world
        .accept(&task(&json!({"url": endpoint.url("/")})))
        .await;
    world.wait_for(&id, "COMPLETED").await;
    let [first, second] = <[_; 2]>::try_from(endpoint.requests()).unwrap();
    assert!(seconds(&second) >= seconds(&first) + 3);
    world.finish().await;
}

#[tokio::test]
async fn other_refusals_fail_at_once_unless_the_task_says_otherwise() {
    let world = world("http_404").await;
    let endpoint = Endpoint::start().await.unwrap();
    endpoint.reply([Reply::status(404)]);
    let id = world
        .accept(&task(&json!({"url": endpoint.url("/")})))
        .await;
    let failed = world.wait_for(&id, "FAILED").await;
    assert_eq!(failed["attempt"], 1);
    assert_eq!(failed["error"]["code"], "http_status");
    endpoint.reply([Reply::status(404), Reply::status(409)]);
    let rules = json!({"url": endpoint.url("/"), "retry_on": [404], "success_on": ["2xx", 409]});
    let id = world.accept(&task(&rules)).await;
    let done = world.wait_for(&id, "COMPLETED").await;
    assert_eq!(
        (&done["attempt"], &done["result"]["status"]),
        (&json!(2), &json!(409))
    );
    world.finish().await;
}

#[tokio::test]
async fn addresses_that_are_not_public_are_refused_at_the_door() {
    let world = World::without_mailer("http_door", &[("outbound.allow_http", "true")]).await;
    for url in [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::1]/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://100.100.100.200/",
        "https://ada:secret@example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "https://example.com:25/",
        "example.com",
    ] {
        let (status, problem) = world.post("/tasks", &task(&json!({"url": url}))).await;
        assert_eq!(status, 422, "{url}: {problem}");
        assert_eq!(problem["errors"][0]["pointer"], "/payload/url", "{problem}");
        assert!(!problem.to_string().contains("secret"), "{problem}");
    }
    assert_eq!(world.env.sql::<i64>("select count(*) from tasks").await, 0);
    world.finish().await;
}

#[tokio::test]
async fn a_name_or_a_redirect_that_leads_inside_is_refused() {
    let endpoint = Endpoint::start().await.unwrap();
    let inside = Endpoint::start_tls().await.unwrap();
    let allowed = format!("127.0.0.1:{}", endpoint.address().port());
    let settings = [("outbound.allow", allowed.as_str()), ("outbound.ports", "")];
    let world = started("http_inside", &settings).await;
    let at = inside.url_at("localhost", "/?token=t0p");
    let id = world.accept(&task(&json!({"url": at}))).await;
    let failed = world.wait_for(&id, "FAILED").await;
    assert_eq!(failed["error"]["code"], "http_address_refused");
    let message =
        "localhost: the URL leads to a loopback address, and outbound.allow does not name it";
    assert_eq!(failed["error"]["message"], message);
    for location in [
        inside.url("/"),
        inside.url_at("localhost", "/"),
        "http://169.254.169.254/".into(),
    ] {
        endpoint.reply([Reply::status(307).with("location", &location)]);
        let id = world
            .accept(&task(
                &json!({"url": endpoint.url("/"), "max_redirects": 3}),
            ))
            .await;
        let failed = world.wait_for(&id, "FAILED").await;
        assert_eq!(
            failed["error"]["code"], "http_address_refused",
            "{location}"
        );
    }
    assert_eq!(inside.connections(), 0);
    assert_nothing_leaks(&world, &["t0p"]).await;
    world.finish().await;
}

#[tokio::test]
async fn long_answers_are_cut_and_late_ones_not_waited_for() {
    let settings = [
        ("outbound.allow", "127.0.0.1"),
        ("outbound.max_response_bytes", "100"),
    ];
    let world = started("http_limits", &settings).await;
    let endpoint = Endpoint::start().await.unwrap();
    endpoint.reply([Reply::Endless]);
    let id = world
        .accept(&task(&json!({"url": endpoint.url("/")})))
        .await;
    let done = world.wait_for(&id, "COMPLETED").await;
    assert_eq!(done["result"]["body"], "x".repeat(100));
    assert_eq!(
        (&done["result"]["truncated"], &done["result"]["signed_by"]),
        (&json!(true), &Value::Null)
    );

    endpoint.reply([Reply::Silence]);
    let id = world
        .accept(&task(
            &json!({"url": endpoint.url("/"), "method": "GET", "timeout_s": 1}),
        ))
        .await;
    let done = world.wait_for(&id, "COMPLETED").await;
    assert_eq!(done["attempt"], 2);
    let code = "select error_code from task_attempts";
    assert_eq!(world.env.sql::<String>(code).await, "http_timeout");

    // Nobody can tell what became of a POST.
    endpoint.reply([Reply::Silence]);
    let mut held = task(&json!({"url": endpoint.url("/"), "timeout_s": 1}));
    held["on_worker_lost"] = "hold".into();
    let id = world.accept(&held).await;
    let unknown = world.wait_for(&id, "UNKNOWN").await;
    assert_eq!(unknown["error"]["code"], "http_outcome_unknown");
    world.finish().await;
}

#[tokio::test]
async fn tls_is_checked_against_the_configured_authority() {
    let endpoint = Endpoint::start_tls().await.unwrap();
    let file = std::env::temp_dir().join(format!("warren-http-{}.pem", std::process::id()));
    std::fs::write(&file, endpoint.ca_pem().unwrap()).unwrap();
    let settings = [
        ("outbound.allow", "localhost"),
        ("outbound.ca_file", file.to_str().unwrap()),
    ];
    let world = started("http_tls", &settings).await;
    let at = endpoint.url_at("localhost", "/");
    let id = world
        .accept(&task(&json!({"url": at, "method": "PUT", "body": []})))
        .await;
    let done = world.wait_for(&id, "COMPLETED").await;
    assert_eq!(done["result"]["status"], 200);
    // Another authority's certificate.
    let stranger = Endpoint::start_tls().await.unwrap();
    let id = world
        .accept(&json!({"kind": "http.request", "max_attempts": 1, "payload": {"url": stranger.url_at("localhost", "/")}}))
        .await;
    let failed = world.wait_for(&id, "FAILED").await;
    assert_eq!(failed["error"]["code"], "http_tls");
    assert!(stranger.requests().is_empty());
    std::fs::remove_file(&file).unwrap();
    world.finish().await;
}
