//! What operators and browsers see.

use crate::support::{Answer, Api, LONG};
use reqwest::Method;
use serde_json::json;
use shared::config::Config;
use testkit::harness::wait_until;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn health_and_metrics() {
    let api = Api::start("operation_health").await;
    wait_until(LONG, "the broker", async || {
        api.open(Method::GET, "/api/v1/health").await.json()["status"] == "ok"
    })
    .await;
    let health = api.open(Method::GET, "/health").await.json();
    assert_eq!(health["app_name"], "api-service");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert!(health["timestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        (&health["database"], &health["broker"]),
        (&json!("up"), &json!("up"))
    );
    api.noop().await;
    for (path, status) in [
        ("/health", 200),
        ("/health/live", 200),
        ("/health/ready", 200),
        ("/metrics", 200),
        ("/api/v1/tasks", 404),
    ] {
        let answer = Answer::of(api.client.get(format!("{}{path}", api.internal_url))).await;
        assert_eq!(answer.status, status, "{path}");
    }
    for path in ["/metrics", "/api/v1/metrics"] {
        let metrics = api.get(path).await;
        assert!(metrics.header("content-type").starts_with("text/plain"));
        assert!(
            metrics.text.contains(
                "warren_http_requests_total{method=\"POST\",route=\"/tasks\",status=\"202\"}"
            ),
            "{}",
            metrics.text
        );
    }
    api.finish().await;
}

#[tokio::test]
async fn without_a_broker_tasks_are_accepted() {
    let api = Api::start_with(
        "operation_no_broker",
        &[("broker.url", "amqp://nobody:x@127.0.0.1:1/%2f")],
    )
    .await;
    let health = api.open(Method::GET, "/health").await;
    assert_eq!(health.status, 200);
    assert_eq!(
        (&health.json()["status"], &health.json()["broker"]),
        (&json!("degraded"), &json!("down"))
    );
    assert_eq!(api.open(Method::GET, "/health/ready").await.status, 200);
    api.noop().await;
    api.finish().await;
}

#[tokio::test]
async fn without_a_database_it_says_so_and_comes_back() {
    let settings = [
        ("database.pool_timeout_ms", "300"),
        ("accept.patience_ms", "500"),
    ];
    let (api, proxy) = Api::start_behind_proxy("operation_no_database", &settings).await;
    let id = api.noop().await;
    proxy.cut().await;
    wait_until(LONG, "health to notice", async || {
        api.open(Method::GET, "/health").await.status == 503
    })
    .await;
    assert_eq!(
        api.open(Method::GET, "/health").await.json()["status"],
        "down"
    );
    assert_eq!(api.open(Method::GET, "/health/ready").await.status, 503);
    assert_eq!(api.open(Method::GET, "/health/live").await.status, 200);
    // The key is still known; the task can't be read or stored.
    let shown = api.get(&format!("/api/v1/tasks/{id}")).await;
    assert_eq!(
        (shown.problem().as_str(), shown.header("retry-after")),
        ("database-unavailable", "1")
    );
    let refused = api
        .post(
            "/api/v1/tasks",
            &json!({"kind": "demo.noop", "payload": {}}),
        )
        .await;
    assert_eq!(refused.problem(), "database-unavailable");
    // A key that can't be checked gets nobody in, and is not called wrong either.
    let unknown = api
        .client
        .get(format!("{}/api/v1/tasks", api.url))
        .bearer_auth(format!("wr_{}", "x".repeat(43)));
    assert_eq!(Answer::of(unknown).await.problem(), "database-unavailable");
    proxy.heal().await;
    wait_until(LONG, "health to come back", async || {
        api.open(Method::GET, "/health").await.status == 200
    })
    .await;
    assert_eq!(api.get(&format!("/api/v1/tasks/{id}")).await.status, 200);
    api.finish().await;
}

#[tokio::test]
async fn messages_are_as_their_document_says() {
    let api = Api::start("operation_asyncapi").await;
    let document = api.open(Method::GET, "/asyncapi.json").await.json();
    assert_eq!(document["asyncapi"], "3.0.0");
    let id = api.noop().await;
    let queue = "warren.tasks.work.normal";
    wait_until(LONG, "the message", async || {
        api.env.queue_depth(queue).await == 1
    })
    .await;
    let channel = &document["channels"][format!("queue.{queue}")];
    assert_eq!(channel["address"], queue);
    let described = &document["components"]["messages"]["task"];
    let message = api.env.get_messages(queue, 1).await.remove(0);
    let names = |value: &serde_json::Value| -> Vec<String> {
        let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    let mut properties = message.properties.clone();
    let headers = properties.as_object_mut().unwrap().remove("headers");
    let headers = headers.unwrap();
    assert_eq!(names(&properties), names(&described["x-properties"]));
    for name in names(&headers) {
        assert!(
            described["headers"]["properties"][&name].is_object(),
            "{name}"
        );
    }
    assert_eq!(properties["message_id"], id.as_str());
    let payload: serde_json::Value = serde_json::from_str(&message.payload).unwrap();
    let schema = &document["components"]["schemas"]["Envelope"];
    assert_eq!(names(&payload), names(&schema["properties"]));
    api.finish().await;
}

#[tokio::test]
async fn pages_load_nothing_from_elsewhere() {
    let api = Api::start("operation_pages").await;
    for path in ["/docs", "/problems/overloaded"] {
        let page = api.open(Method::GET, path).await;
        assert!(
            page.header("content-security-policy")
                .starts_with("default-src 'none'"),
            "{path}"
        );
        assert_eq!(page.header("x-content-type-options"), "nosniff");
    }
    for path in [
        "/docs",
        "/docs/docs.css",
        "/docs/docs.js",
        "/docs/render.js",
    ] {
        let file = api.open(Method::GET, path).await;
        assert_eq!(file.status, 200);
        assert!(
            !file.text.contains("http://") && !file.text.contains("https://"),
            "{path}"
        );
    }
    let document = api.open(Method::GET, "/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    // What is documented is there.
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let path = path.replace("{id}", "x").replace("{slug}", "internal");
            let answer = Answer::of(api.request(method.clone(), &path)).await;
            assert_ne!(answer.status, 405, "{method} {path}");
            if answer.status == 404 {
                assert!(answer.problem().ends_with("-not-found"), "{method} {path}");
            }
        }
    }
    api.finish().await;
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (key, variable) in [
        ("http.listen", "WARREN__HTTP__LISTEN"),
        ("http.metrics_listen", "WARREN__HTTP__METRICS_LISTEN"),
    ] {
        let mut settings = vec![
            ("http.listen", "127.0.0.1:0"),
            ("http.metrics_listen", "127.0.0.1:0"),
            ("database.url", "postgres://x@127.0.0.1:1/x"),
        ];
        settings.push((key, &address));
        let stop = CancellationToken::new();
        let config = Config::with(&settings).unwrap();
        let error = api_service::service::start(&config, stop.clone())
            .unwrap_err()
            .to_string();
        stop.cancel();
        for part in [key, variable, address.as_str()] {
            assert!(error.contains(part), "{error}");
        }
    }
}

/// With the table locked one request is being stored, and its bytes are all that may wait.
#[tokio::test]
async fn waiting_bytes_are_bounded() {
    let api = Api::start_with("operation_bytes", &[("accept.queue_bytes", "1024")]).await;
    api.env
        .execute("begin; lock table tasks in exclusive mode")
        .await;
    let body = json!({"kind": "demo.noop", "payload": {}});
    let post = || Answer::of(api.request(Method::POST, "/api/v1/tasks").json(&body));
    let unlock = async {
        wait_until(LONG, "a request to be turned away", async || {
            let metrics = api.get("/metrics").await.text;
            metrics.contains("route=\"/tasks\",status=\"503\"")
        })
        .await;
        api.env.execute("commit").await;
    };
    let (one, other, ()) = tokio::join!(post(), post(), unlock);
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 503]);
    // Room is given back, and what is larger than all of it passes alone.
    let text = "x".repeat(5000);
    let mail = json!({"to": "ada@example.com", "subject": "s", "text": text});
    assert_eq!(api.post("/api/v1/emails", &mail).await.status, 202);
    api.finish().await;
}
