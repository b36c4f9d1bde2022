//! Templates as their authors meet them; what mails are made of them is in the worker's tests.

use crate::support::{Answer, Api, LONG};
use api_service::auth::Scope;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::harness::wait_until;

fn content(subject: &str) -> Value {
    json!({"content": {
        "default_locale": "en",
        "variables": {"name": {"type": "string", "example": "Ada"}, "url": {"type": "url", "required": false}},
        "variants": {
            "en": {"subject": subject, "markdown": "# Hi {{ name }}{% if url %}\n\n[Look]({{ url }}){% endif %}"},
            "zh": {"subject": "你好", "markdown": "# {{ name }}，你好"},
        },
    }})
}

async fn put(api: &Api, name: &str, body: &Value) -> Answer {
    let request = api.request(Method::PUT, &format!("/api/v1/templates/{name}"));
    Answer::of(request.json(body)).await
}

async fn publish(api: &Api, name: &str, body: &Value) -> Answer {
    api.post(&format!("/api/v1/templates/{name}/publish"), body)
        .await
}

async fn send(api: &Api, variables: Value) -> Answer {
    let body = json!({"to": "ada@example.com", "template": {"name": "hello", "locale": "en-GB", "variables": variables}});
    api.post("/api/v1/emails", &body).await
}

#[tokio::test]
async fn a_draft_becomes_a_version_and_an_earlier_one_comes_back() {
    let api = Api::start("templates_versions").await;
    let draft = put(&api, "hello", &content("One")).await;
    assert_eq!(draft.status, 201, "{draft:?}");
    assert_eq!(
        (
            &draft.json()["version"],
            &draft.json()["state"],
            &draft.json()["published"]
        ),
        (&json!(1), &json!("draft"), &Value::Null)
    );
    // Nobody gets a draft.
    assert_eq!(
        send(&api, json!({"name": "Ada"})).await.places(),
        ["/template/name"]
    );
    let draft = put(&api, "hello", &content("Two")).await;
    assert_eq!((draft.status, &draft.json()["version"]), (200, &json!(1)));
    let one = publish(&api, "hello", &json!({})).await.json();
    assert_eq!(
        (&one["published"], &one["state"]),
        (&json!(1), &json!("published"))
    );
    // What is published does not change any more.
    let draft = put(&api, "hello", &content("Three")).await.json();
    assert_eq!(
        (&draft["version"], &draft["published"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(
        publish(&api, "hello", &json!({})).await.json()["published"],
        2
    );
    let back = publish(&api, "hello", &json!({"version": 1})).await.json();
    assert_eq!(
        (
            &back["published"],
            &back["content"]["variants"]["en"]["subject"]
        ),
        (&json!(1), &json!("Two"))
    );
    let versions = api.get("/api/v1/templates/hello/versions").await.json();
    let states: Vec<_> = versions["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["version"], &one["state"]))
        .collect();
    assert_eq!(
        states,
        [
            (&json!(2), &json!("former")),
            (&json!(1), &json!("published"))
        ]
    );
    let payload = format!(
        "select payload::text from tasks where id = '{}'",
        send(&api, json!({"name": "Ada"})).await.accepted()
    );
    let payload: Value = serde_json::from_str(&api.env.sql::<String>(&payload).await).unwrap();
    assert_eq!(payload["template"]["version"], 1);
    assert!(
        payload.get("subject").is_none() && payload.get("html").is_none(),
        "{payload}"
    );

    let gone = Answer::of(api.request(Method::DELETE, "/api/v1/templates/hello")).await;
    assert_eq!(gone.status, 204);
    assert_eq!(
        api.get("/api/v1/templates/hello").await.problem(),
        "template-not-found"
    );
    assert_eq!(
        send(&api, json!({"name": "Ada"})).await.places(),
        ["/template/name"]
    );
    // Its numbers are not given again.
    assert_eq!(
        put(&api, "hello", &content("Four")).await.json()["version"],
        3
    );
    let deeds = "select string_agg(action, ' ' order by at) from audit_log";
    let deeds: String = api.env.sql(deeds).await;
    assert_eq!(
        deeds,
        "template.put template.put template.publish template.put template.publish template.publish template.delete template.put"
    );
    api.finish().await;
}

#[tokio::test]
async fn another_replica_sends_what_was_published_here() {
    let api = Api::start("templates_replicas").await;
    let (replica, stop) = api.replica();
    put(&api, "hello", &content("One")).await;
    publish(&api, "hello", &json!({})).await;
    let url = format!("http://{}/api/v1/emails", replica.api_addr);
    let body = json!({"to": "ada@example.com", "template": {"name": "hello", "variables": {"name": "Ada"}}});
    wait_until(LONG, "the other replica to know it", async || {
        let request = api.client.post(&url).bearer_auth(&api.key).json(&body);
        Answer::of(request).await.status == 202
    })
    .await;
    stop.cancel();
    replica.wait().await.unwrap();
    api.finish().await;
}

#[tokio::test]
async fn a_mail_s_values_are_checked_when_it_is_accepted() {
    let api = Api::start("templates_values").await;
    put(&api, "hello", &content("Hi {{ name }}")).await;
    publish(&api, "hello", &json!({})).await;
    for (variables, places) in [
        (json!({}), vec!["/template/variables/name"]),
        (
            json!({"name": 7, "nmae": "x"}),
            vec!["/template/variables/nmae", "/template/variables/name"],
        ),
        (
            json!({"name": "x", "url": "javascript:alert(1)"}),
            vec!["/template/variables/url"],
        ),
        (json!({"name": "x".repeat(2000)}), vec!["/subject"]),
    ] {
        let refused = send(&api, variables).await;
        assert_eq!(refused.problem(), "invalid-fields");
        assert_eq!(refused.places(), places, "{refused:?}");
    }
    let both = json!({"to": "ada@example.com", "subject": "x", "text": "y", "template": {"name": "hello", "variables": {"name": "x"}}});
    assert_eq!(
        api.post("/api/v1/emails", &both).await.places(),
        ["/subject", "/text"]
    );
    let task = json!({"kind": "email.send", "payload": {"to": "ada@example.com", "template": {"name": "none"}}});
    assert_eq!(
        api.post("/api/v1/tasks", &task).await.places(),
        ["/payload/template/name"]
    );
    assert_eq!(api.env.sql::<i64>("select count(*) from tasks").await, 0);
    api.finish().await;
}

#[tokio::test]
async fn a_template_is_looked_at_before_it_is_published() {
    let api = Api::start("templates_preview").await;
    let wrong = json!({"content": {
        "default_locale": "en",
        "variants": {"en": {"subject": "Hi {{ name }}", "markdown": "{% if %}"}},
    }});
    let refused = put(&api, "hello", &wrong).await;
    assert_eq!(
        refused.places(),
        [
            "/content/variants/en/subject",
            "/content/variants/en/markdown"
        ]
    );
    assert_eq!(
        api.get("/api/v1/templates/hello").await.problem(),
        "template-not-found"
    );
    put(&api, "hello", &content("Hi {{ name }}")).await;
    let preview = api
        .post(
            "/api/v1/templates/hello/preview",
            &json!({"locale": "zh-CN"}),
        )
        .await
        .json();
    assert_eq!(
        (&preview["locale"], &preview["subject"], &preview["text"]),
        (&json!("zh"), &json!("你好"), &json!("Ada，你好\n"))
    );
    assert!(
        preview["html"].as_str().unwrap().contains("<h1 style="),
        "{preview}"
    );
    let values = json!({"variables": {"name": "[x](https://evil.example)"}});
    let preview = api
        .post("/api/v1/templates/hello/preview", &values)
        .await
        .json();
    assert_eq!(preview["text"], "Hi [x](https://evil.example)\n");
    assert!(
        !preview["html"].as_str().unwrap().contains("href"),
        "{preview}"
    );
    let test = json!({"to": "ada@example.com"});
    let sent = api.post("/api/v1/templates/hello/test", &test).await;
    let tags = format!("select tags[1] from tasks where id = '{}'", sent.accepted());
    assert_eq!(api.env.sql::<String>(&tags).await, "template-test");
    let reader = api.key_with(&[Scope::Read]).await;
    for (method, path) in [
        (Method::PUT, ""),
        (Method::DELETE, ""),
        (Method::POST, "/publish"),
        (Method::POST, "/test"),
    ] {
        let url = format!("{}/api/v1/templates/hello{path}", api.url);
        let request = api
            .client
            .request(method, url)
            .bearer_auth(&reader)
            .json(&test);
        assert_eq!(
            Answer::of(request).await.problem(),
            "insufficient-scope",
            "{path}"
        );
    }
    api.finish().await;
}

#[tokio::test]
async fn warren_brings_some_and_keeps_their_names() {
    let api = Api::start_with("templates_built_in", &[("mail.max_templates", "1")]).await;
    put(&api, "hello", &content("One")).await;
    let listed = api.get("/api/v1/templates").await.json();
    let names: Vec<_> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "hello",
            "warren.alert",
            "warren.magic-link",
            "warren.report",
            "warren.verification-code",
            "warren.welcome"
        ]
    );
    for name in ["warren.welcome", "Hello", "a%20b", "..%2fx"] {
        assert_eq!(
            put(&api, name, &content("x")).await.problem(),
            "template-not-found",
            "{name}"
        );
    }
    let full = put(&api, "second", &content("x")).await;
    assert_eq!(full.problem(), "invalid-fields");
    assert!(full.text.contains("mail.max_templates"), "{full:?}");
    assert_eq!(put(&api, "hello", &content("x")).await.status, 200);
    let own = api.get("/api/v1/templates/warren.welcome").await.json();
    assert_eq!(
        (&own["built_in"], &own["version"]),
        (&json!(true), &Value::Null)
    );
    assert!(own["content"]["variants"]["zh"].is_object());
    api.finish().await;
}
