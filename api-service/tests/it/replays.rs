//! Replays with a canary, as requests meet them; what becomes of their tasks is in the worker's tests.

use crate::support::{Answer, Api, LONG};
use api_service::auth::Scope;
use serde_json::{Value, json};
use testkit::harness::wait_until;

fn canary() -> Value {
    json!({"first": 2, "min_success": 0.9, "rate_per_s": 5})
}

/// Tasks that have failed.
async fn failures(api: &Api, count: usize) {
    for _ in 0..count {
        api.noop().await;
    }
    api.env
        .execute("update tasks set status = 'FAILED', attempt = 1, error_code = 'x', finished_at = now() where status = 'PENDING'; delete from outbox")
        .await;
}

#[tokio::test]
async fn mistakes_in_a_canary_are_named() {
    let api = Api::start("replays_mistakes").await;
    for (body, places) in [
        (
            json!({"filter": {"kind": "x"}, "canary": {}}),
            vec!["/canary"],
        ),
        (
            json!({"filter": {"kind": "x"}, "canary": {"first": 0, "min_success": 2, "rate_per_s": -1}}),
            vec!["/canary/min_success", "/canary/rate_per_s", "/canary/first"],
        ),
        (
            json!({"filter": {"status": ["RETRYING"]}, "canary": canary()}),
            vec!["/filter/status"],
        ),
        (
            json!({"filter": {"kind": "x"}, "cursor": "AZABkAGQcAGAAAAAAAAAAQ", "canary": canary()}),
            vec!["/cursor"],
        ),
    ] {
        let answer = api.post("/api/v1/tasks/retry", &body).await;
        assert_eq!(answer.problem(), "invalid-fields", "{body}");
        assert_eq!(answer.places(), places, "{answer:?}");
    }
    let cancel = json!({"filter": {"kind": "x"}, "canary": canary()});
    let answer = api.post("/api/v1/tasks/cancel", &cancel).await;
    assert_eq!(answer.places(), ["/canary"]);
    assert_eq!(api.env.sql::<i64>("select count(*) from replays").await, 0);
    let reader = api.key_with(&[Scope::Read]).await;
    let request = api.client.post(format!("{}/api/v1/tasks/retry", api.url));
    let begun = Answer::of(request.bearer_auth(reader).json(&cancel)).await;
    assert_eq!(begun.problem(), "insufficient-scope");
    api.finish().await;
}

#[tokio::test]
async fn replays_are_listed_shown_and_forgotten() {
    let api = Api::start("replays_list").await;
    failures(&api, 3).await;
    let mut paths = Vec::new();
    for kind in ["none", "nothing", "demo.noop"] {
        let body = json!({"filter": {"kind": kind}, "canary": canary(), "limit": 2});
        let answer = api.post("/api/v1/tasks/retry", &body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let replay = answer.json();
        assert_eq!(answer.header("location"), replay["links"]["self"]);
        assert_eq!(replay["filter"], json!({"kind": kind}));
        let matched = if kind == "demo.noop" { 2 } else { 0 };
        assert_eq!(
            (&replay["matched"], &replay["limit"]),
            (&json!(matched), &json!(2))
        );
        paths.push(replay["links"]["self"].as_str().unwrap().to_owned());
    }
    for path in &paths[..2] {
        wait_until(LONG, "nothing to be done", async || {
            api.get(path).await.json()["state"] == "COMPLETED"
        })
        .await;
    }
    // No worker is there, so the canary has no outcome.
    wait_until(LONG, "the canary to wait", async || {
        let replay = api.get(&paths[2]).await.json();
        replay["state"] == "WAITING_CANARY" && replay["waiting"] == 2
    })
    .await;
    let page = api.get("/api/v1/replays?limit=2").await.json();
    assert_eq!(page["items"][0]["links"]["self"], paths[2].as_str());
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = api
        .get(&format!("/api/v1/replays?limit=2&cursor={cursor}"))
        .await
        .json();
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&page["items"][0]["links"]["self"], &page["next_cursor"]),
        (&json!(paths[0]), &Value::Null)
    );
    let wrong = api.get("/api/v1/replays?limit=0&colour=red").await;
    assert_eq!(wrong.problem(), "invalid-parameters");
    let stopped = api.post(&format!("{}/stop", paths[2]), &json!({})).await;
    assert_eq!(stopped.json()["state"], "CANCELLED");
    // Two tasks were deleted meanwhile: their outcome is not known to be good.
    api.env
        .execute("delete from tasks; delete from outbox")
        .await;
    wait_until(LONG, "the outcomes", async || {
        api.get(&paths[2]).await.json()["failed"] == 2
    })
    .await;
    // A year later.
    api.env
        .execute("update replays set finished_at = finished_at - interval '366 days'")
        .await;
    wait_until(LONG, "the janitor", async || {
        api.env
            .sql::<i64>(
                "select (select count(*) from replays) + (select count(*) from replay_tasks)",
            )
            .await
            == 0
    })
    .await;
    assert_eq!(api.get(&paths[2]).await.problem(), "replay-not-found");
    api.finish().await;
}
