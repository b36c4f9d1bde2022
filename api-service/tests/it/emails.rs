//! Who gets which copy.

use crate::support::Api;
use serde_json::{Value, json};

/// Payloads by id, in the order of the answer.
async fn payloads(api: &Api, answer: &Value) -> Vec<Value> {
    let mut payloads = Vec::new();
    for task in answer["tasks"].as_array().unwrap() {
        let path = format!(
            "{}?include=payload",
            task["links"]["self"].as_str().unwrap()
        );
        let task = api.get(&path).await.json();
        assert_eq!(
            (&task["kind"], &task["queue"]),
            (&json!("email.send"), &json!("mail"))
        );
        payloads.push(task["payload"].clone());
    }
    payloads
}

fn recipients(answer: &Value) -> Vec<&str> {
    answer["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["recipient"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn single_mails() {
    let api = Api::start("emails_single").await;
    let body = json!({
        "to": ["Ada <ada@example.com>", "bob@b\u{fc}cher.example", "ada@EXAMPLE.com"],
        "subject": "Gr\u{fc}\u{df}e", "html": "<p>x</p>", "tags": ["spring"], "priority": 8,
    });
    let answer = api.post("/api/v1/emails", &body).await;
    let id = answer.accepted();
    let answer = answer.json();
    assert_eq!(
        recipients(&answer),
        ["ada@example.com", "bob@xn--bcher-kva.example"]
    );
    assert_eq!(answer["tasks"][0]["id"], *id);
    assert_eq!(answer["tasks"][1]["status"], "PENDING");
    let payloads = payloads(&api, &answer).await;
    assert_eq!(payloads[0]["to"], json!(["Ada <ada@example.com>"]));
    assert_eq!(payloads[1]["to"], json!(["bob@xn--bcher-kva.example"]));
    assert!(
        payloads
            .iter()
            .all(|mail| mail.get("message_id").is_none()
                && mail["from"] == "Shop <shop@example.com>")
    );
    let tagged = api.get("/api/v1/tasks?tag=spring&queue=mail").await.json();
    let tagged = tagged["items"].as_array().unwrap();
    assert!(tagged.len() == 2 && tagged.iter().all(|task| task["priority"] == 8));
    api.finish().await;
}

#[tokio::test]
async fn a_group() {
    let api = Api::start("emails_group").await;
    let body = json!({
        "to": "ada@example.com", "cc": ["Bob <bob@example.com>", "ada@example.com"], "bcc": ["eve@example.com", "bob@example.com"],
        "from": "Club <club@example.com>", "reply_to": "help@example.com", "subject": "Hi", "text": "x",
        "headers": {"X-Campaign": "spring"},
    });
    let answer = api.post("/api/v1/emails", &body).await;
    let id = answer.accepted();
    let answer = answer.json();
    assert_eq!(
        recipients(&answer),
        ["ada@example.com", "bob@example.com", "eve@example.com"]
    );
    for (payload, recipient) in payloads(&api, &answer)
        .await
        .iter()
        .zip(recipients(&answer))
    {
        let expected = json!({
            "recipient": recipient, "message_id": id, "from": "Club <club@example.com>",
            "to": ["ada@example.com"], "cc": ["Bob <bob@example.com>", "ada@example.com"],
            "reply_to": ["help@example.com"], "subject": "Hi", "text": "x", "headers": {"X-Campaign": "spring"},
        });
        assert_eq!(*payload, expected);
    }
    api.finish().await;
}

#[tokio::test]
async fn mistakes_are_named_as_in_the_request() {
    let api = Api::start_with("emails_mistakes", &[("limits.max_recipients", "3")]).await;
    for (change, places) in [
        (json!({"to": ["a@example.com", "nobody"]}), vec!["/to/1"]),
        (json!({"to": "nobody"}), vec!["/to"]),
        (json!({"to": []}), vec!["/to"]),
        (json!({"cc": ["a@b\r\nBcc: x@example.com"]}), vec!["/cc/0"]),
        (
            json!({"bcc": ["a@example.com", "b@example.com", "c@example.com"]}),
            vec!["/to"],
        ),
        (
            json!({"from": "Sh\r\nop <shop@example.com>"}),
            vec!["/from"],
        ),
        (json!({"reply_to": ["x"]}), vec!["/reply_to/0"]),
        (
            json!({"subject": "a\r\nBcc: x@example.com"}),
            vec!["/subject"],
        ),
        (
            json!({"subject": null, "text": null}),
            vec!["/subject", "/text"],
        ),
        (
            json!({"headers": {"Bcc": "x@example.com", "X-Y": "a\nb"}}),
            vec!["/headers/Bcc", "/headers/X-Y"],
        ),
        (
            json!({"priority": 10, "tags": ["ok", ""]}),
            vec!["/priority", "/tags/1"],
        ),
        (json!({"run_at": "tomorrow"}), vec!["/run_at"]),
        (json!({"colour": []}), vec!["/colour"]),
    ] {
        let mut body = json!({"to": "ada@example.com", "subject": "Hi", "text": "x"});
        body.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let answer = api.post("/api/v1/emails", &body).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (422, "invalid-fields"),
            "{change}"
        );
        assert_eq!(answer.places(), places, "{change}");
        assert!(
            !answer.text.contains("nobody"),
            "values stay out of errors: {}",
            answer.text
        );
    }
    let stored: u32 = api.env.sql("select count(*) from tasks").await;
    assert_eq!(stored, 0);
    api.finish().await;
}

#[tokio::test]
async fn scheduled_mails() {
    let api = Api::start("emails_scheduled").await;
    let body = json!({"to": "ada@example.com", "subject": "Hi", "text": "x", "run_at": "2030-01-01T09:00:00+09:00"});
    let refused = api.post("/api/v1/emails", &body).await;
    assert_eq!(refused.places(), ["/run_at"]);
    assert!(refused.text.contains("limits.max_schedule_days"));
    let soon = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let mut body = body;
    body["run_at"] = json!(soon.to_rfc3339());
    let answer = api.post("/api/v1/emails", &body).await.json();
    assert_eq!(answer["tasks"][0]["status"], "SCHEDULED");
    api.finish().await;
}
