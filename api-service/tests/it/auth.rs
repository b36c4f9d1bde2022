//! Who gets in.

use crate::support::{Answer, Api, LONG};
use api_service::{auth::Scope, cli::key};
use reqwest::Method;
use std::time::{Duration, Instant};
use testkit::harness::wait_until;

async fn status_with(api: &Api, url: &str, key: &str) -> u16 {
    let request = api
        .client
        .get(format!("{url}/api/v1/tasks"))
        .bearer_auth(key);
    Answer::of(request).await.status
}

/// Another key, made as an operator would.
async fn another_key(api: &Api) -> String {
    let config = api.config().clone();
    let making = move || {
        shared::db::Session::new(&config.database)
            .run(|connection| Ok(key::create(connection, "second", None, &[Scope::Admin]).unwrap()))
            .unwrap()
    };
    tokio::task::spawn_blocking(making).await.unwrap()
}

/// Revokes a key by the id that `key list` shows beside its first characters.
async fn revoke(api: &Api, key: &str) {
    let config = api.config().clone();
    let hint = key[..7].to_owned();
    let revoking = move || {
        shared::db::Session::new(&config.database)
            .run(|connection| {
                let table = key::list(connection).unwrap();
                let line = table.lines().find(|line| line.contains(&hint)).unwrap();
                assert!(
                    line.contains("valid") && line.ends_with("second"),
                    "{table}"
                );
                let id = line.split(' ').next().unwrap().parse().unwrap();
                key::revoke(connection, id).unwrap();
                assert!(key::list(connection).unwrap().contains("revoked"));
                assert!(key::revoke(connection, uuid::Uuid::nil()).is_err());
                Ok(())
            })
            .unwrap();
    };
    tokio::task::spawn_blocking(revoking).await.unwrap();
}

#[tokio::test]
async fn the_open_endpoints_are_few() {
    let api = Api::start("auth_open").await;
    for path in [
        "/health",
        "/health/live",
        "/health/ready",
        "/api/v1/health",
        "/openapi.json",
        "/api/v1/openapi.json",
        "/asyncapi.json",
        "/api/v1/asyncapi.json",
        "/docs",
        "/docs/docs.js",
        "/problems/internal",
        "/",
    ] {
        assert_eq!(api.open(Method::GET, path).await.status, 200, "{path}");
    }
    for path in [
        "/api/v1/tasks",
        "/api/v1/emails",
        "/api/v1/metrics",
        "/metrics",
        "/api/v1/nonsense",
        "/api/v1/tasks/x",
    ] {
        let answer = api.open(Method::GET, path).await;
        assert_eq!(answer.problem(), "missing-api-key", "{path}");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    api.finish().await;
}

/// Whoever adds an endpoint has to say which scope it needs.
#[tokio::test]
async fn a_key_without_scopes_may_do_nothing() {
    let api = Api::start("auth_scopes").await;
    let none = api.key_with(&[]).await;
    let document = api.open(Method::GET, "/openapi.json").await.json();
    let mut seen = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            // Figures about the service, for whoever has a key at all.
            if operation["security"] == serde_json::json!([{}]) || path == "/api/v1/metrics" {
                continue;
            }
            let path = path.replace("{id}", "01890000-0000-7000-8000-000000000001");
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let request = api.client.request(method, format!("{}{path}", api.url));
            let request = request.bearer_auth(&none).json(&serde_json::json!({}));
            let answer = Answer::of(request).await;
            assert_eq!(answer.problem(), "insufficient-scope", "{path}");
            seen += 1;
        }
    }
    assert!(seen >= 9, "{seen}");
    api.finish().await;
}

#[tokio::test]
async fn scopes_are_kept_apart_and_use_is_noted() {
    let api = Api::start("auth_scope").await;
    let submit = api.key_with(&[Scope::Submit]).await;
    assert_eq!(status_with(&api, &api.url, &submit).await, 403);
    let read = api.key_with(&[Scope::Read]).await;
    assert_eq!(status_with(&api, &api.url, &read).await, 200);
    let body = serde_json::json!({"kind": "demo.noop", "payload": {}});
    for (key, status) in [(&submit, 202), (&read, 403)] {
        let request = api.client.post(format!("{}/api/v1/tasks", api.url));
        let answer = Answer::of(request.bearer_auth(key).json(&body)).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    wait_until(LONG, "the use to be noted", async || {
        let used = "select count(*) from api_keys where last_used_at is not null";
        api.env.sql::<i64>(used).await >= 2
    })
    .await;
    api.finish().await;
}

#[tokio::test]
async fn only_valid_keys_get_in() {
    let api = Api::start("auth_keys").await;
    let unknown = format!("wr_{}", "A".repeat(43));
    for key in [
        "",
        "nonsense",
        &unknown,
        &api.key[..20],
        &format!("{} x", api.key),
    ] {
        assert_eq!(status_with(&api, &api.url, key).await, 401, "{key}");
    }
    let basic = api
        .client
        .get(format!("{}/api/v1/tasks", api.url))
        .basic_auth("a", Some("b"));
    assert_eq!(Answer::of(basic).await.problem(), "invalid-api-key");
    let lower = api
        .client
        .get(format!("{}/api/v1/tasks", api.url))
        .header("authorization", format!("bearer {}", api.key));
    assert_eq!(Answer::of(lower).await.status, 200);
    // Only the hash is stored.
    let stored: String = api
        .env
        .sql("select row_to_json(k)::text from api_keys k")
        .await;
    assert!(!stored.contains(&api.key[7..]), "{stored}");
    api.finish().await;
}

#[tokio::test]
async fn keys_live_and_die_on_every_replica() {
    let api = Api::start("auth_replicas").await;
    let (replica, stop) = api.replica();
    let replica_url = format!("http://{}", replica.api_addr);
    wait_until(LONG, "the replica", async || {
        status_with(&api, &replica_url, &api.key).await == 200
    })
    .await;

    let key = another_key(&api).await;
    for url in [&api.url, &replica_url] {
        assert_eq!(
            status_with(&api, url, &key).await,
            200,
            "a new key works at once"
        );
    }
    revoke(&api, &key).await;
    let revoked = Instant::now();
    for url in [&api.url, &replica_url] {
        wait_until(LONG, "the key to die", async || {
            status_with(&api, url, &key).await == 401
        })
        .await;
    }
    assert!(
        revoked.elapsed() < Duration::from_secs(3),
        "{:?}",
        revoked.elapsed()
    );

    let expiring = another_key(&api).await;
    assert_eq!(status_with(&api, &api.url, &expiring).await, 200);
    api.env.execute("update api_keys set expires_at = now() + interval '200 ms' where revoked_at is null and name = 'second'").await;
    wait_until(LONG, "the key to expire", async || {
        status_with(&api, &api.url, &expiring).await == 401
    })
    .await;
    assert_eq!(status_with(&api, &api.url, &api.key).await, 200);

    stop.cancel();
    replica.wait().await.unwrap();
    api.finish().await;
}

#[tokio::test]
async fn unknown_keys_cost_the_database_little() {
    let api = Api::start("auth_flood").await;
    let begin = Instant::now();
    let tries = (0..200).map(|i| {
        let key = format!("wr_{i:043}");
        let request = api
            .client
            .get(format!("{}/api/v1/tasks", api.url))
            .bearer_auth(key);
        Answer::of(request)
    });
    let answers = futures_util::future::join_all(tries).await;
    assert!(answers.iter().all(|answer| answer.status == 401));
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
    api.finish().await;
}
