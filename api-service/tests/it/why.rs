//! Why a task waits, and since when, as a person would ask.

use crate::support::{Answer, Api};
use reqwest::Method;
use serde_json::{Value, json};

async fn patch(api: &Api, id: &str, body: &Value) -> Answer {
    let request = api.request(Method::PATCH, &format!("/api/v1/tasks/{id}"));
    Answer::of(request.json(body)).await
}

async fn task(api: &Api, fields: Value) -> String {
    let mut body = json!({"kind": "demo.noop", "payload": {}});
    body.as_object_mut()
        .unwrap()
        .extend(fields.as_object().cloned().unwrap());
    api.post("/api/v1/tasks", &body).await.accepted()
}

async fn why(api: &Api, id: &str) -> Value {
    api.get(&format!("/api/v1/tasks/{id}/why")).await.json()
}

fn codes(why: &Value) -> Vec<&str> {
    let reasons = why["reasons"].as_array().unwrap();
    reasons
        .iter()
        .map(|reason| reason["code"].as_str().unwrap())
        .collect()
}

/// A worker of the queue `work` with so many slots, and so many of them taken; it never beats again.
async fn worker(api: &Api, slots: i64, running: i64) {
    let load = json!({"work": {"slots": slots, "running": running, "held": 2, "unacked": running + 2, "prefetch": 16}});
    api.env
        .execute(&format!(
            "insert into workers (id, name, host, pid, version, queues, kinds, state, load)
             values (gen_random_uuid(), 'one', 'one', 1, '0', '{{work}}', '{{demo.noop}}', 'alive', '{load}')"
        ))
        .await;
}

async fn with_worker(name: &str, running: i64) -> Api {
    let api = Api::start_with(name, &[("rescue.lease_s", "600")]).await;
    worker(&api, 2, running).await;
    api
}

#[tokio::test]
async fn the_first_in_line_waits_for_a_slot() {
    let api = with_worker("why_slots", 2).await;
    let id = task(&api, json!({})).await;
    api.env.execute("delete from outbox").await;
    let full = why(&api, &id).await;
    assert_eq!(codes(&full), ["slots"], "{full}");
    assert!(full["estimated_start_at"].is_null(), "{full}");
    let queues = api.get("/api/v1/queues").await.json();
    let work = queues["queues"]
        .as_array()
        .unwrap()
        .iter()
        .find(|queue| queue["name"] == "work")
        .unwrap();
    assert_eq!((&work["slots"], &work["unacked"]), (&json!(2), &json!(4)));
    api.finish().await;
}

#[tokio::test]
async fn without_a_broker_it_is_the_broker() {
    let settings = [
        ("broker.url", "amqp://nobody:x@127.0.0.1:1/%2f"),
        ("rescue.lease_s", "600"),
    ];
    let api = Api::start_with("why_no_broker", &settings).await;
    worker(&api, 2, 0).await;
    let id = task(&api, json!({})).await;
    assert_eq!(codes(&why(&api, &id).await), ["broker_down"]);
    // Published before, and no worker can have got it since.
    api.env.execute("delete from outbox").await;
    assert_eq!(codes(&why(&api, &id).await), ["broker_down"]);
    api.finish().await;
}

#[tokio::test]
async fn a_task_out_of_its_line_waits_for_its_time() {
    let api = with_worker("why_left_line", 0).await;
    let id = task(&api, json!({"limit_key": "tenant:one"})).await;
    api.env
        .execute(&format!(
            "insert into limits (scope, name, concurrency) values ('key', 'tenant:one', 1);
             insert into limit_waits (task_id, scope, name, queue, priority) values ('{id}', 'key', 'tenant:one', 'work', 5);
             update tasks set due_at = now() + interval '1 hour' where id = '{id}';
             delete from outbox"
        ))
        .await;
    assert_eq!(codes(&why(&api, &id).await), ["limit"]);
    assert_eq!(patch(&api, &id, &json!({"delay": 600})).await.status, 200);
    let later = why(&api, &id).await;
    assert_eq!(codes(&later), ["scheduled"], "{later}");
    assert_eq!(later["estimated_start_at"], later["reasons"][0]["until"]);
    api.finish().await;
}

#[tokio::test]
async fn a_task_is_not_put_off_beyond_its_use() {
    let api = Api::start("why_useful").await;
    let useful = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let id = task(&api, json!({"useful_until": useful, "delay": 60})).await;
    let before = api.get(&format!("/api/v1/tasks/{id}")).await.json();
    for (body, place) in [
        (json!({"delay": 3700}), "/delay"),
        (
            json!({"run_at": useful + chrono::TimeDelta::minutes(1)}),
            "/run_at",
        ),
    ] {
        let refused = patch(&api, &id, &body).await;
        assert_eq!(refused.problem(), "invalid-fields", "{body}");
        assert_eq!(refused.places(), [place]);
        assert!(refused.text.contains("useful_until"), "{refused:?}");
    }
    assert_eq!(api.get(&format!("/api/v1/tasks/{id}")).await.json(), before);
    assert_eq!(patch(&api, &id, &json!({"delay": 3000})).await.status, 200);
    api.finish().await;
}

#[tokio::test]
async fn the_oldest_waits_since_its_time_had_come() {
    let api = Api::start("why_oldest").await;
    let id = task(&api, json!({})).await;
    // An hour ago its attempt failed; half a minute ago the next one's time had come.
    api.env
        .execute(&format!(
            "update tasks set status = 'RETRYING', attempt = 1, updated_at = now() - interval '1 hour',
                next_attempt_at = now() - interval '30 seconds' where id = '{id}'"
        ))
        .await;
    let queues = api.get("/api/v1/queues").await.json();
    let lanes = queues["queues"].as_array().unwrap().iter();
    let oldest = lanes
        .flat_map(|queue| queue["lanes"].as_array().unwrap())
        .find_map(|lane| lane["oldest_waiting_s"].as_f64());
    let oldest = oldest.unwrap();
    assert!((30.0..3000.0).contains(&oldest), "{oldest}");
    api.finish().await;
}
