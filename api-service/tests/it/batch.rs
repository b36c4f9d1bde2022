//! Many mails in one request.

use crate::support::{Answer, Api};
use reqwest::Method;
use serde_json::{Value, json};

const PATH: &str = "/api/v1/emails/batch";

fn mail(to: &Value) -> Value {
    json!({"to": to, "subject": "Hi", "text": "x"})
}

async fn count(api: &Api) -> i64 {
    api.env.sql("select count(*) from tasks").await
}

#[tokio::test]
async fn all_or_none_are_stored() {
    let api = Api::start("batch_strict").await;
    let mails: Vec<_> = (0..1000)
        .map(|n| mail(&json!(format!("r{n}@example.com"))))
        .collect();
    let sent = api.post(PATH, &json!({"emails": mails})).await;
    assert_eq!(sent.status, 202, "{}", sent.text);
    let answer = sent.json();
    assert_eq!(
        (&answer["accepted"], &answer["rejected"]),
        (&json!(1000), &json!(0))
    );
    let last = &answer["items"][999];
    assert_eq!(
        (&last["status"], &last["tasks"][0]["recipient"]),
        (&json!("accepted"), &json!("r999@example.com"))
    );
    let shown = api
        .get(&format!("/api/v1/tasks/{}", last["id"].as_str().unwrap()))
        .await;
    assert_eq!(shown.json()["kind"], "email.send");
    assert_eq!(count(&api).await, 1000);

    let wrong = json!({"emails": [
        mail(&json!("ada@example.com")),
        mail(&json!(["bob@example.com", "b"])),
        {"to": "eve@example.com", "subject": "Hi", "template": {"name": "none"}, "colour": "red"},
        {"to": "eve@example.com", "template": {"name": "none"}, "priority": 12},
        7,
    ]});
    let refused = api.post(PATH, &wrong).await;
    assert_eq!(refused.problem(), "invalid-fields");
    assert_eq!(
        refused.places(),
        [
            "/emails/1/to/1",
            "/emails/2/colour",
            "/emails/3/template/name",
            "/emails/3/priority",
            "/emails/4"
        ]
    );
    assert_eq!(count(&api).await, 1000);
    api.finish().await;
}

#[tokio::test]
async fn of_a_partial_batch_the_good_ones_are_stored_once() {
    let api = Api::start("batch_partial").await;
    let body = json!({"mode": "partial", "emails": [
        mail(&json!(["ada@example.com", "bob@example.com"])),
        mail(&json!([])),
        {"to": "eve@example.com", "template": {"name": "warren.welcome", "variables": {"name": "Eve", "product": "Shop"}}},
    ]});
    let post = async || {
        let request = api
            .request(Method::POST, PATH)
            .header("Idempotency-Key", "k");
        Answer::of(request.json(&body)).await
    };
    let sent = post().await;
    let answer = sent.json();
    assert_eq!(
        (sent.status, &answer["accepted"], &answer["rejected"]),
        (202, &json!(2), &json!(1))
    );
    let states: Vec<_> = answer["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["status"])
        .collect();
    assert_eq!(states, ["accepted", "rejected", "accepted"]);
    assert_eq!(answer["items"][0]["tasks"].as_array().unwrap().len(), 2);
    assert_eq!(answer["items"][1]["errors"][0]["pointer"], "/to");
    let again = post().await;
    assert_eq!(
        (again.json(), again.header("idempotency-replayed")),
        (answer, "true")
    );
    assert_eq!(count(&api).await, 3);
    let none = json!({"mode": "partial", "emails": [mail(&json!([])), mail(&json!("x"))]});
    assert_eq!(
        api.post(PATH, &none).await.places(),
        ["/emails/0/to", "/emails/1/to"]
    );
    assert_eq!(count(&api).await, 3);
    api.finish().await;
}

#[tokio::test]
async fn a_batch_has_limits() {
    let api = Api::start_with("batch_limits", &[("limits.max_batch", "3")]).await;
    let ada = || mail(&json!("ada@example.com"));
    for emails in [
        json!([]),
        json!([ada(), ada(), ada(), ada()]),
        json!([
            ada(),
            mail(&json!(["a@x.example", "b@x.example", "c@x.example"]))
        ]),
    ] {
        let refused = api.post(PATH, &json!({"emails": emails})).await;
        assert_eq!(
            (refused.problem(), refused.places()),
            ("invalid-fields".into(), vec!["/emails".to_owned()])
        );
        assert!(refused.text.contains("limits.max_batch"), "{refused:?}");
    }
    assert_eq!(
        api.post(PATH, &json!({"emails": [ada(), ada(), ada()]}))
            .await
            .status,
        202
    );
    assert_eq!(count(&api).await, 3);
    api.finish().await;
}
