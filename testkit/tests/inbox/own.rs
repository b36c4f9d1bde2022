//! What Mailpit lacks: deliveries and fault rules; and the page.

use reqwest::{Method, StatusCode};
use serde_json::json;
use testkit::inbox::{Action, FaultRule, InboxOptions, Phase};

use super::{
    client::{Smtp, start, start_with},
    http::{call, get, three_mails},
};

#[tokio::test]
async fn deliveries_count_repeats() {
    let inbox = three_mails().await;
    let all = get(&inbox, "/api/v1/deliveries?header=x-warren-task").await;
    assert_eq!(
        (
            &all["messages"],
            &all["distinct"],
            &all["repeated"],
            &all["without"],
            &all["dropped"]
        ),
        (&json!(3), &json!(1), &json!(1), &json!(1), &json!(0))
    );
    assert_eq!(
        (
            &all["deliveries"][0]["value"],
            &all["deliveries"][0]["count"]
        ),
        (&json!("t-7"), &json!(2))
    );
    let by_subject = get(&inbox, "/api/v1/deliveries?header=Subject&min=2").await;
    assert_eq!(
        (&by_subject["distinct"], &by_subject["deliveries"]),
        (&json!(3), &json!([]))
    );

    let light = start_with(InboxOptions {
        keep_raw: false,
        ..InboxOptions::default()
    });
    Smtp::ready(&light)
        .await
        .mail("a@warren.test", "X-Warren-Task: t\r\n")
        .await;
    assert_eq!(get(&light, "/api/v1/deliveries").await["distinct"], 1);
    assert_eq!(
        call(
            &light,
            Method::GET,
            "/api/v1/deliveries?header=Subject",
            None
        )
        .await
        .0,
        400
    );
    assert_eq!(
        get(&light, "/api/v1/messages").await["messages"][0]["To"][0]["Address"],
        "a@warren.test"
    );
}

#[tokio::test]
async fn fault_rules_are_set_read_and_removed() {
    let inbox = start();
    let rules = json!([
        {"match": "*@busy.test", "phase": "rcpt", "action": {"reply": {"code": 450, "text": "4.2.1 Busy"}}, "times": 2},
        {"match": "*", "phase": "dot", "action": {"delay": {"ms": 5}}},
        {"match": "*", "phase": "dot", "action": "store_then_drop"},
    ]);
    let (status, body) = call(
        &inbox,
        Method::PUT,
        "/api/v1/faults",
        Some(&rules.to_string()),
    )
    .await;
    assert_eq!((status, &body), (StatusCode::OK, &rules));
    assert_eq!(get(&inbox, "/api/v1/faults").await, rules);
    let busy =
        FaultRule::new("*@busy.test", Phase::Rcpt, Action::reply(450, "4.2.1 Busy")).times(2);
    assert_eq!(inbox.faults()[0], busy);

    for (wrong, problem) in [
        (
            r#"[{"match":"*","phase":"rcpt","action":"drop","time":1}]"#,
            "unknown field `time`",
        ),
        (
            r#"[{"match":"*","phase":"rcpt","action":{"reply":{"code":450,"txt":""}}}]"#,
            "unknown field `txt`",
        ),
        (
            r#"[{"match":"*","phase":"helo","action":"drop"}]"#,
            "unknown variant `helo`",
        ),
        (
            r#"[{"match":"*","phase":"rcpt","action":{"reply":{"code":250}}}]"#,
            "rule 0: code 250",
        ),
        (
            r#"[{"phase":"rcpt","action":"drop"}]"#,
            "missing field `match`",
        ),
        ("{}", "invalid type"),
    ] {
        let (status, body) = call(&inbox, Method::PUT, "/api/v1/faults", Some(wrong)).await;
        assert_eq!(status, 400);
        assert!(body["Error"].as_str().unwrap().contains(problem), "{body}");
    }
    assert_eq!(inbox.faults().len(), 3, "wrong rules change nothing");
    assert_eq!(
        call(&inbox, Method::DELETE, "/api/v1/faults", None).await.0,
        204
    );
    assert_eq!(get(&inbox, "/api/v1/faults").await, json!([]));
}

#[tokio::test]
async fn the_page_and_its_files_are_served_with_a_policy() {
    let inbox = start();
    let page = testkit::http::client()
        .get(inbox.http_url())
        .send()
        .await
        .unwrap();
    let policy = page.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        policy.contains("default-src 'none'; script-src 'self';"),
        "{policy}"
    );
    assert_eq!(page.headers()["x-content-type-options"], "nosniff");
    let html = page.text().await.unwrap();
    let files: Vec<_> = html
        .split(['"'])
        .filter(|text| text.starts_with("/web/"))
        .collect();
    assert!(files.len() >= 4, "{files:?}");
    for file in files.into_iter().chain([
        "/web/api.js",
        "/web/dom.js",
        "/web/list.js",
        "/web/reader.js",
    ]) {
        let response = testkit::http::client()
            .get(inbox.http_url() + file)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{file}");
    }
    assert_eq!(get(&inbox, "/readyz").await, "ok");
}
