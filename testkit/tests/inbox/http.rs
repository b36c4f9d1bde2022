//! A bare HTTP client, and an inbox with something in it.

use reqwest::{Method, StatusCode};
use serde_json::Value;
use testkit::inbox::Inbox;

use super::client::{Smtp, start};

pub(super) const MAIL: &str = "From: Ann <ann@warren.test>\r\nTo: Bob <bob@warren.test>\r\nSubject: Invoice 7\r\n\
    Message-ID: <m1@warren.test>\r\nDate: Sat, 01 Nov 2025 10:00:00 +0100\r\nX-Warren-Task: t-7\r\n\
    MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
    --b\r\nContent-Type: text/plain\r\n\r\nPlease pay.\r\n\
    --b\r\nContent-Type: text/html\r\nContent-Disposition: attachment; filename=\"a\\\"b.html\"\r\n\r\n<script>1</script>\r\n--b--";

/// Status and body; JSON where it is JSON, text otherwise.
pub(super) async fn call(
    inbox: &Inbox,
    method: Method,
    path: &str,
    body: Option<&str>,
) -> (StatusCode, Value) {
    let mut request = testkit::http::client().request(method, inbox.http_url() + path);
    if let Some(body) = body {
        request = request.body(body.to_owned());
    }
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    (
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

pub(super) async fn get(inbox: &Inbox, path: &str) -> Value {
    let (status, body) = call(inbox, Method::GET, path, None).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

pub(super) async fn three_mails() -> Inbox {
    let inbox = start();
    let mut smtp = Smtp::ready(&inbox).await;
    smtp.mail("bob@warren.test", MAIL).await;
    smtp.mail(
        "eve@warren.test",
        "Subject: second\r\nFrom: zoe@warren.test\r\n\r\nfoo <b>bar</b>",
    )
    .await;
    smtp.mail(
        "bob@warren.test",
        "Subject: third\r\nX-Warren-Task: t-7\r\n\r\n",
    )
    .await;
    inbox
}
