//! The REST API in Mailpit's shapes.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::http::{MAIL, call, get, three_mails};

fn subjects(list: &Value) -> Vec<&str> {
    list["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mail| mail["Subject"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn lists_are_newest_first_and_paged() {
    let inbox = three_mails().await;
    let list = get(&inbox, "/api/v1/messages").await;
    assert_eq!(subjects(&list), ["third", "second", "Invoice 7"]);
    assert_eq!(
        (
            &list["total"],
            &list["unread"],
            &list["count"],
            &list["messages_count"],
            &list["start"],
            &list["tags"]
        ),
        (
            &json!(3),
            &json!(3),
            &json!(3),
            &json!(3),
            &json!(0),
            &json!([])
        )
    );
    let mail = &list["messages"][2];
    assert_eq!(
        mail["From"],
        json!({"Name": "Ann", "Address": "ann@warren.test"})
    );
    assert_eq!(
        mail["To"],
        json!([{"Name": "Bob", "Address": "bob@warren.test"}])
    );
    assert_eq!(mail["MessageID"], "m1@warren.test");
    assert_eq!(
        (&mail["Attachments"], &mail["Read"], &mail["Snippet"]),
        (&json!(1), &json!(false), &json!("Please pay."))
    );
    for field in ["ID", "Cc", "Bcc", "ReplyTo", "Created", "Size", "Tags"] {
        assert!(!mail[field].is_null(), "{field}");
    }
    assert_eq!(
        list["messages"][1]["Bcc"][0]["Address"], "eve@warren.test",
        "no header names her"
    );
    assert_eq!(
        subjects(&get(&inbox, "/api/v1/messages?start=1&limit=1").await),
        ["second"]
    );
    let (status, body) = call(&inbox, Method::GET, "/api/v1/messages?limit=x", None).await;
    assert_eq!(status, 400, "{body}");
}

#[tokio::test]
async fn search_finds_by_place_and_text() {
    let inbox = three_mails().await;
    for (query, expected) in [
        ("to:BOB", vec!["third", "Invoice 7"]),
        ("to:bob%20pay", vec!["Invoice 7"]),
        ("from:zoe", vec!["second"]),
        ("from:sender%40", vec!["third", "second", "Invoice 7"]),
        ("subject:%22invoice%207%22", vec!["Invoice 7"]),
        ("%22foo%20%3Cb%22", vec!["second"]),
        ("t-7", vec!["third", "Invoice 7"]),
        ("nowhere", vec![]),
    ] {
        let list = get(&inbox, &format!("/api/v1/search?query={query}")).await;
        assert_eq!(subjects(&list), expected, "{query}");
        assert_eq!(
            (&list["messages_count"], &list["total"]),
            (&json!(expected.len()), &json!(3))
        );
    }
    assert_eq!(
        call(&inbox, Method::GET, "/api/v1/search?query=", None)
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn one_mail_in_full() {
    let inbox = three_mails().await;
    let id = inbox.messages()[0].id;
    let mail = get(&inbox, &format!("/api/v1/message/{id}")).await;
    assert_eq!(mail["Text"].as_str().unwrap().trim(), "Please pay.");
    assert_eq!(
        (&mail["HTML"], &mail["ReturnPath"]),
        (&json!(""), &json!("sender@warren.test"))
    );
    assert_eq!(mail["Date"], "2025-11-01T10:00:00+01:00");
    assert_eq!(mail["Envelope"]["To"], json!(["bob@warren.test"]));
    let part = &mail["Attachments"][0];
    assert_eq!(part["ContentType"], "text/html");

    let headers = get(&inbox, &format!("/api/v1/message/{id}/headers")).await;
    assert_eq!(headers["X-Warren-Task"], json!(["t-7"]));
    let raw = get(&inbox, &format!("/api/v1/message/{id}/raw")).await;
    assert_eq!(raw.as_str().unwrap(), format!("{MAIL}\r\n"));
    assert_eq!(
        get(&inbox, "/api/v1/message/latest").await["Subject"],
        "third"
    );
    assert_eq!(
        get(&inbox, "/api/v1/info").await["Unread"],
        1,
        "two were opened"
    );

    let path = format!(
        "{}/api/v1/message/{id}/part/{}",
        inbox.http_url(),
        part["PartID"].as_str().unwrap()
    );
    let response = testkit::http::client().get(path).send().await.unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "application/octet-stream",
        "a browser must not run it"
    );
    assert!(
        response.headers()["content-disposition"]
            .to_str()
            .unwrap()
            .starts_with("attachment")
    );
    assert_eq!(response.text().await.unwrap().trim(), "<script>1</script>");
    for path in [
        "nonsense",
        "latest/part/99",
        "018f2f00-0000-7000-8000-000000000000",
    ] {
        let (status, body) = call(
            &inbox,
            Method::GET,
            &format!("/api/v1/message/{path}"),
            None,
        )
        .await;
        assert_eq!(status, 404, "{path}");
        assert!(body["Error"].as_str().unwrap().contains("not found"));
    }
}

#[tokio::test]
async fn mails_are_deleted_by_id_or_all() {
    let inbox = three_mails().await;
    let ids = json!({"IDs": [inbox.messages()[1].id]}).to_string();
    assert_eq!(
        call(&inbox, Method::DELETE, "/api/v1/messages", Some(&ids)).await,
        (StatusCode::OK, json!("ok"))
    );
    assert_eq!(
        subjects(&get(&inbox, "/api/v1/messages").await),
        ["third", "Invoice 7"]
    );
    for wrong in ["{\"ids\": []}", "{\"IDs\": [\"x\"]}", "["] {
        let (status, body) = call(&inbox, Method::DELETE, "/api/v1/messages", Some(wrong)).await;
        assert_eq!(status, 400, "{wrong}: {body}");
    }
    assert_eq!(inbox.count(), 2, "a wrong request deletes nothing");
    call(&inbox, Method::DELETE, "/api/v1/messages", None).await;
    assert_eq!(inbox.count(), 0);
}
