//! Accepting and following tasks.

use crate::support::{Answer, Api, LONG};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::harness::wait_until;

#[tokio::test]
async fn an_accepted_task_can_be_looked_at() {
    let api = Api::start("tasks_accept").await;
    let soon = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let body = json!({
        "kind": "demo.noop", "payload": {}, "priority": 0, "queue": "ai", "run_at": soon.to_rfc3339(), "max_attempts": 3,
        "useful_until": (soon + chrono::TimeDelta::hours(1)).to_rfc3339(), "tags": ["a\"b\\,{}"], "on_worker_lost": "hold",
    });
    let accepted = api.post("/api/v1/tasks", &body).await;
    let id = accepted.accepted();
    assert_eq!(accepted.json()["status"], "SCHEDULED");
    let shown = api.get(&format!("/api/v1/tasks/{id}")).await;
    assert_eq!(shown.json(), accepted.json(), "as it was accepted");
    assert_eq!(shown.header("cache-control"), "no-store");
    let with_payload = api
        .get(&format!("/api/v1/tasks/{id}?include=payload"))
        .await;
    assert_eq!(with_payload.json()["payload"], json!({}));
    let lost: String = api.env.sql("select on_worker_lost from tasks").await;
    assert_eq!(lost, "hold");
    assert_eq!(api.env.queue_depth("warren.tasks.ai.low").await, 0);

    let now = api
        .post(
            "/api/v1/tasks",
            &json!({"kind": "demo.noop", "payload": {}, "priority": 9}),
        )
        .await;
    assert_eq!(now.json()["status"], "PENDING");
    api.env
        .wait_until(LONG, "the message", async || {
            api.env.queue_depth("warren.tasks.work.high").await == 1
        })
        .await;
    api.finish().await;
}

#[tokio::test]
async fn results_and_errors_are_shown_as_stored() {
    let api = Api::start("tasks_results").await;
    let id = api.noop().await;
    api.env
        .execute("update tasks set status = 'COMPLETED', result = '{\"z\": [1, 2],\"a\":1e400}', attempt = 1, started_at = now(), finished_at = now()")
        .await;
    let shown = api.get(&format!("/api/v1/tasks/{id}")).await;
    assert!(
        shown
            .text
            .contains("\"result\":{\"z\": [1, 2],\"a\":1e400}"),
        "{}",
        shown.text
    );
    api.finish().await;
}

#[tokio::test]
async fn mistakes_are_named_all_at_once() {
    let api = Api::start("tasks_mistakes").await;
    let tasks = "/api/v1/tasks";
    let answer = api
        .post(tasks, &json!({"kind": "email.send", "payload": {"to": [], "subject": "x\n"}, "priority": -1, "max_attempts": 0, "tags": [""]}))
        .await;
    assert_eq!(answer.problem(), "invalid-fields");
    assert_eq!(
        answer.places(),
        [
            "/payload/to",
            "/payload/recipient",
            "/payload/subject",
            "/payload/text",
            "/priority",
            "/tags/0",
            "/max_attempts"
        ]
    );
    for (body, places) in [
        (json!({}), vec!["/kind"]),
        (json!({"kind": "demo.noop"}), vec!["/payload"]),
        (
            json!({"kind": "demo.noop", "payload": {"x": 1}}),
            vec!["/payload/x"],
        ),
        (
            json!({"kind": "demo.noop", "payload": []}),
            vec!["/payload"],
        ),
        (json!({"kind": 5, "payload": {}}), vec!["/kind"]),
        (
            json!({"kind": "demo.noop", "payload": {}, "queue": "post"}),
            vec!["/queue"],
        ),
        (
            json!({"kind": "demo.noop", "payload": {}, "wait": 1}),
            vec!["/wait"],
        ),
        (
            json!({"kind": "demo.noop", "payload": {}, "max_attempts": 101}),
            vec!["/max_attempts"],
        ),
        (
            json!({"kind": "demo.noop", "payload": {}, "useful_until": "2020-01-01T00:00:00Z"}),
            vec!["/useful_until"],
        ),
        (json!([]), vec![""]),
    ] {
        let answer = api.post(tasks, &body).await;
        assert_eq!(
            (answer.problem().as_str(), answer.places()),
            (
                "invalid-fields",
                places.iter().map(ToString::to_string).collect()
            ),
            "{body}"
        );
    }
    api.finish().await;
}

#[tokio::test]
async fn demonstrations_are_for_demonstrations() {
    let api = Api::start_with("tasks_demo", &[("service.demo_kinds", "false")]).await;
    for body in [
        json!({"kind": "demo.noop", "payload": {}}),
        json!({"prompt": "Hello", "model": "small", "priority": 3}),
    ] {
        let answer = api.post("/api/v1/tasks", &body).await;
        assert_eq!(answer.problem(), "unknown-kind");
        assert_eq!(
            answer.json()["known_kinds"],
            json!(["email.send", "http.request"])
        );
    }
    api.finish().await;
}

#[tokio::test]
async fn a_long_poll_ends_with_the_task() {
    let api = Api::start_with("tasks_wait", &[("http.max_waiting", "1")]).await;
    let id = api.noop().await;
    let path = format!("/api/v1/tasks/{id}?wait=30");
    let begin = Instant::now();
    let finish = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        api.env
            .execute("update tasks set status = 'COMPLETED', result = '{}', finished_at = now()")
            .await;
        Instant::now()
    };
    let (answer, finished) = tokio::join!(api.get(&path), finish);
    assert_eq!(answer.json()["status"], "COMPLETED");
    assert!(
        finished.elapsed() < Duration::from_secs(1),
        "{:?}",
        finished.elapsed()
    );
    assert!(begin.elapsed() > Duration::from_millis(300));
    // A final task is not waited for.
    let begin = Instant::now();
    assert_eq!(api.get(&path).await.status, 200);
    assert!(begin.elapsed() < Duration::from_secs(1));
    api.finish().await;
}

#[tokio::test]
async fn a_long_poll_ends_by_itself_and_gives_up_its_place() {
    let api = Api::start_with("tasks_wait_end", &[("http.max_waiting", "1")]).await;
    let id = api.noop().await;
    let begin = Instant::now();
    let answer = api.get(&format!("/api/v1/tasks/{id}?wait=1")).await;
    assert_eq!(answer.json()["status"], "PENDING");
    assert!(
        (1.0..3.0).contains(&begin.elapsed().as_secs_f64()),
        "{:?}",
        begin.elapsed()
    );

    let long = api.request(Method::GET, &format!("/api/v1/tasks/{id}?wait=60"));
    // The looks below may hold the one place in the moment when this comes for it.
    let hanging =
        tokio::spawn(
            async move { while Answer::of(long.try_clone().unwrap()).await.status == 503 {} },
        );
    let quick = async || api.get(&format!("/api/v1/tasks/{id}?wait=0")).await.status;
    wait_until(LONG, "the place to be taken", async || quick().await == 503).await;
    // Whoever hangs up makes room.
    hanging.abort();
    wait_until(LONG, "the place to be free", async || quick().await == 200).await;
    api.finish().await;
}

#[tokio::test]
async fn a_stopping_service_answers_those_who_wait() {
    let api = Api::start("tasks_wait_stop").await;
    let id = api.noop().await;
    let waiting = tokio::spawn(Answer::of(
        api.request(Method::GET, &format!("/api/v1/tasks/{id}?wait=60")),
    ));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begin = Instant::now();
    api.finish().await;
    let answer = waiting.await.unwrap();
    assert_eq!(
        (answer.status, &answer.json()["status"]),
        (200, &Value::from("PENDING"))
    );
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
}
