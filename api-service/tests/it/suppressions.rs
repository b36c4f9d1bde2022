//! Addresses that get no mails, as operators and senders meet them.

use crate::support::{Answer, Api};
use api_service::auth::Scope;
use reqwest::Method;
use serde_json::{Value, json};

const PATH: &str = "/api/v1/suppressions";
const PEPPER: (&str, &str) = (
    "secrets.peppers",
    "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
);

async fn suppress(api: &Api, body: Value) -> Value {
    let answer = api.post(PATH, &body).await;
    assert!([200, 201].contains(&answer.status), "{answer:?}");
    answer.json()
}

async fn mail(api: &Api, to: Value, category: &str) -> Answer {
    let body = json!({"to": to, "subject": "Hi", "text": "x", "category": category});
    api.post("/api/v1/emails", &body).await
}

async fn csv(api: &Api, body: impl Into<reqwest::Body>) -> Answer {
    let request = api
        .request(Method::POST, "/api/v1/suppressions/import")
        .header("content-type", "text/csv")
        .body(body);
    Answer::of(request).await
}

#[tokio::test]
async fn a_suppressed_recipient_gets_nothing_and_others_do() {
    let api = Api::start_with(
        "suppressions_accept",
        &[PEPPER, ("http.public_url", "https://mail.example.com")],
    )
    .await;
    let id = suppress(&api, json!({"address": "Ada@Example.com"})).await["id"].clone();
    suppress(
        &api,
        json!({"address": "bob@example.com", "category": "marketing"}),
    )
    .await;

    let all = json!(["ada@example.com", "ADA@example.com", "bob@example.com"]);
    let sent = mail(&api, all.clone(), "marketing").await.json();
    let told: Vec<_> = sent["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| (task["status"].clone(), task["suppressed"].clone()))
        .collect();
    assert_eq!(told, vec![(json!("CANCELLED"), json!(true)); 3]);
    let sent = mail(&api, all, "transactional").await.json();
    assert_eq!(sent["tasks"][1]["suppressed"], true);
    assert_eq!(sent["tasks"][2]["suppressed"], Value::Null);
    assert_eq!(sent["tasks"][2]["status"], "PENDING");

    // It is on record, as a mail and as a task, and nothing waits for it.
    let first = sent["id"].as_str().unwrap();
    let shown = api.get(&format!("/api/v1/emails/{first}")).await.json();
    let outcome = |at: usize| shown["recipients"][at]["outcome"].clone();
    assert_eq!(
        [outcome(0), outcome(1), outcome(2)],
        ["suppressed", "suppressed", "queued"]
    );
    let task = api.get(&format!("/api/v1/tasks/{first}")).await.json();
    assert_eq!(task["error"]["code"], "recipient_suppressed");
    assert!(task["finished_at"].is_string());
    let waiting = "select count(*) from tasks where finished_at is null";
    assert_eq!(api.env.sql::<i64>(waiting).await, 1);

    // In a batch, and scheduled, likewise.
    let batch = json!({"emails": [
        {"to": "ada@example.com", "subject": "Hi", "text": "x", "delay": 60},
        {"to": "eve@example.com", "subject": "Hi", "text": "x", "delay": 60},
    ]});
    let items = api.post("/api/v1/emails/batch", &batch).await.json()["items"].clone();
    assert_eq!(items[0]["tasks"][0]["status"], "CANCELLED");
    assert_eq!(items[1]["tasks"][0]["status"], "SCHEDULED");

    let path = format!("{PATH}/{}", id.as_str().unwrap());
    let gone = Answer::of(api.request(Method::DELETE, &path)).await;
    assert_eq!(gone.status, 204);
    assert_eq!(api.get(&path).await.problem(), "suppression-not-found");
    let sent = mail(&api, json!("ada@example.com"), "security")
        .await
        .json();
    assert_eq!(sent["tasks"][0]["status"], "PENDING");
    api.finish().await;
}

#[tokio::test]
async fn suppressions_are_listed_replaced_and_end() {
    let api = Api::start("suppressions_list").await;
    let first = suppress(
        &api,
        json!({"address": "ada@example.com", "detail": "asked by phone"}),
    )
    .await;
    assert_eq!(
        (&first["reason"], &first["category"], &first["created_by"]),
        (&json!("manual"), &Value::Null, &json!("test"))
    );
    let again = suppress(&api, json!({"address": "ada@example.com", "reason": "complaint", "expires_at": "2100-01-01T00:00:00Z"})).await;
    assert_eq!(
        (&again["id"], &again["reason"]),
        (&first["id"], &json!("complaint"))
    );
    for n in 0..5 {
        let address = format!("r{n}@example.com");
        suppress(&api, json!({"address": address, "category": "marketing"})).await;
    }
    let page = api
        .get(&format!("{PATH}?category=marketing&limit=3"))
        .await
        .json();
    assert_eq!(page["items"].as_array().unwrap().len(), 3);
    assert_eq!(page["items"][0]["address"], "r4@example.com");
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = api
        .get(&format!(
            "{PATH}?category=marketing&limit=3&cursor={cursor}"
        ))
        .await
        .json();
    assert_eq!(
        (
            rest["items"].as_array().unwrap().len(),
            &rest["next_cursor"]
        ),
        (2, &Value::Null)
    );
    let found = api
        .get(&format!("{PATH}?address=ADA@example.com"))
        .await
        .json();
    assert_eq!(found["items"][0]["id"], first["id"]);

    for (query, place) in [
        ("reason=x", "reason"),
        ("category=x", "category"),
        ("address=x", "address"),
        ("colour=red", "colour"),
        ("cursor=x", "cursor"),
    ] {
        let refused = api.get(&format!("{PATH}?{query}")).await;
        assert_eq!(
            (refused.problem().as_str(), refused.places()),
            ("invalid-parameters", vec![place.to_owned()])
        );
    }
    let wrong = json!({"address": "ada@example.com", "expires_at": "2020-01-01T00:00:00Z", "detail": "x".repeat(501)});
    assert_eq!(
        api.post(PATH, &wrong).await.places(),
        ["/detail", "/expires_at"]
    );
    let reader = api.key_with(&[Scope::Read]).await;
    let request = api
        .client
        .post(format!("{}{PATH}", api.url))
        .bearer_auth(reader)
        .json(&json!({"address": "x@example.com"}));
    assert_eq!(Answer::of(request).await.problem(), "insufficient-scope");

    // What has ended no longer counts, and goes.
    let end = "update suppressions set expires_at = now() - interval '1 second' where reason = 'complaint'";
    api.env.execute(end).await;
    let sent = mail(&api, json!("ada@example.com"), "transactional")
        .await
        .json();
    assert_eq!(sent["tasks"][0]["status"], "PENDING");
    let logged = "select count(*) from audit_log where details::text like '%example%'";
    assert_eq!(api.env.sql::<i64>(logged).await, 0);
    api.finish().await;
}

#[tokio::test]
async fn lists_come_in_and_go_out_as_csv() {
    let api = Api::start("suppressions_csv").await;
    let lines = (0..2500).map(|n| format!("R{n}@example.com,hard_bounce,*,\"5.1.1, gone\"\n"));
    let mut list = String::from("\u{feff}Address,Reason,category,detail\n");
    list.extend(lines);
    list.push_str(
        "nobody,,,\nx@example.com,because,,\ny@example.com,,news,\nr7@example.com,complaint,,\n",
    );
    let done = csv(&api, list).await;
    assert_eq!(done.status, 200, "{done:?}");
    let done = done.json();
    assert_eq!(
        (&done["stored"], &done["new"], &done["rejected"]),
        (&json!(2501), &json!(2500), &json!(3))
    );
    assert_eq!(done["errors"][0]["line"], 2502);
    assert!(
        done["errors"][1]["detail"]
            .as_str()
            .unwrap()
            .starts_with("reason must be one of")
    );
    let sent = mail(&api, json!("r2499@example.com"), "transactional")
        .await
        .json();
    assert_eq!(sent["tasks"][0]["suppressed"], true);

    let out = api.get("/api/v1/suppressions/export").await;
    assert_eq!(out.header("content-type"), "text/csv; charset=utf-8");
    let lines: Vec<_> = out.text.lines().collect();
    assert_eq!(lines.len(), 2501);
    assert_eq!(lines[0], "address,category,reason,detail,expires_at");
    assert!(lines.contains(&"r7@example.com,*,complaint,,"));
    assert!(lines.contains(&"r8@example.com,*,hard_bounce,\"5.1.1, gone\","));
    // What went out comes in.
    let again = csv(&api, out.text.clone()).await.json();
    assert_eq!((&again["stored"], &again["new"]), (&json!(2500), &json!(0)));

    for (body, problem) in [
        ("name\nx\n", "invalid-fields"),
        ("reason\nmanual\n", "invalid-fields"),
    ] {
        assert_eq!(csv(&api, body).await.problem(), problem);
    }
    let large = "a".repeat(8 * 1024 * 1024 + 1);
    assert_eq!(csv(&api, large).await.problem(), "body-too-large");
    assert_eq!(
        api.post("/api/v1/suppressions/import", &json!({}))
            .await
            .problem(),
        "unsupported-media-type"
    );
    api.finish().await;
}

#[tokio::test]
async fn another_replica_knows_soon() {
    let api = Api::start("suppressions_replica").await;
    let (other, stop) = api.replica();
    suppress(&api, json!({"address": "ada@example.com"})).await;
    let url = format!("http://{}/api/v1/emails", other.api_addr);
    let body = json!({"to": "ada@example.com", "subject": "Hi", "text": "x"});
    api.env
        .wait_until(
            crate::support::LONG,
            "the other replica to know",
            async || {
                let request = api.client.post(&url).bearer_auth(&api.key).json(&body);
                let sent = Answer::of(request).await;
                sent.status == 202 && sent.json()["tasks"][0]["suppressed"] == true
            },
        )
        .await;
    stop.cancel();
    other.wait().await.unwrap();
    api.finish().await;
}

#[tokio::test]
async fn marketing_needs_a_link_to_unsubscribe() {
    let api = Api::start("suppressions_marketing").await;
    let refused = mail(&api, json!("ada@example.com"), "marketing").await;
    assert_eq!(
        (refused.problem().as_str(), refused.places()),
        ("invalid-fields", vec!["/category".to_owned()])
    );
    api.finish().await;
}
