//! The same request twice is done once.

use crate::support::{Answer, Api};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

async fn post(api: &Api, path: &str, key: &str, body: &Value) -> Answer {
    let request = api
        .request(Method::POST, path)
        .header("idempotency-key", key)
        .json(body);
    Answer::of(request).await
}

async fn tasks(api: &Api) -> u32 {
    api.env.sql("select count(*) from tasks").await
}

#[tokio::test]
async fn the_first_answer_is_given_again() {
    let api = Api::start("idempotency_replay").await;
    let body = json!({"to": ["ada@example.com", "bob@example.com"], "subject": "Hi", "text": "x"});
    let first = post(&api, "/api/v1/emails", "k", &body).await;
    first.accepted();
    assert_eq!(first.header("idempotency-replayed"), "");
    let second = post(&api, "/api/v1/emails", "k", &body).await;
    assert_eq!((second.status, &second.text), (first.status, &first.text));
    assert_eq!(second.header("location"), first.header("location"));
    assert_eq!(second.header("content-type"), first.header("content-type"));
    assert_eq!(second.header("idempotency-replayed"), "true");

    let mut other = body.clone();
    other["subject"] = json!("Ho");
    assert_eq!(
        post(&api, "/api/v1/emails", "k", &other).await.problem(),
        "idempotency-key-reused"
    );
    // Even where the other request is wrong in itself.
    assert_eq!(
        post(&api, "/api/v1/emails", "k", &json!({"to": []}))
            .await
            .problem(),
        "idempotency-key-reused"
    );
    let elsewhere = json!({"kind": "demo.noop", "payload": {}});
    assert_eq!(
        post(&api, "/api/v1/tasks", "k", &elsewhere).await.problem(),
        "idempotency-key-reused"
    );
    assert_eq!(tasks(&api).await, 2);
    api.finish().await;
}

#[tokio::test]
async fn fifty_at_once_are_one() {
    let api = Api::start("idempotency_parallel").await;
    let body = json!({"to": ["a@example.com", "b@example.com"], "bcc": "c@example.com", "subject": "Hi", "text": "x"});
    let answers = join_all((0..50).map(|_| post(&api, "/api/v1/emails", "same", &body))).await;
    let first = answers[0].accepted();
    for answer in &answers {
        assert_eq!(
            (answer.accepted(), &answer.text),
            (first.clone(), &answers[0].text)
        );
    }
    let replayed = answers
        .iter()
        .filter(|answer| answer.header("idempotency-replayed") == "true");
    assert_eq!(replayed.count(), 49);
    assert_eq!(tasks(&api).await, 3);
    let keys: u32 = api.env.sql("select count(*) from idempotency_keys").await;
    assert_eq!(keys, 1);
    api.finish().await;
}

#[tokio::test]
async fn an_answer_outlives_what_made_it_possible() {
    let api = Api::start("idempotency_times").await;
    let until = chrono::Utc::now() + Duration::from_millis(700);
    let body = json!({"kind": "demo.noop", "payload": {}, "useful_until": until.to_rfc3339()});
    let first = post(&api, "/api/v1/tasks", "k", &body).await;
    first.accepted();
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(
        post(&api, "/api/v1/tasks", "new", &body).await.places(),
        ["/useful_until"]
    );
    let again = post(&api, "/api/v1/tasks", "k", &body).await;
    assert_eq!(
        (again.accepted(), &again.text),
        (first.accepted(), &first.text)
    );
    api.finish().await;
}

#[tokio::test]
async fn callers_do_not_share_keys() {
    let api = Api::start("idempotency_owners").await;
    let body = json!({"kind": "demo.noop", "payload": {}});
    let first = post(&api, "/api/v1/tasks", "k", &body).await.accepted();
    api.env
        .execute("update idempotency_keys set api_key_id = gen_random_uuid()")
        .await;
    let second = post(&api, "/api/v1/tasks", "k", &body).await;
    assert_ne!(second.accepted(), first);
    assert_eq!(second.header("idempotency-replayed"), "");
    api.finish().await;
}
