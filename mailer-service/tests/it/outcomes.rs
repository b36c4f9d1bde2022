//! What becomes of mails, recipient by recipient: refused for good, kept from who wants none, bounced later.

use crate::world::{LONG, World};
use serde_json::{Value, json};
use testkit::inbox::{Action, FaultRule, Phase};

const SETTINGS: [(&str, &str); 3] = [
    (
        "secrets.peppers",
        "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    ),
    ("http.public_url", "https://mail.example.com/"),
    ("mail.return_path", "bounce@bounces.example.com"),
];

fn refuse(to: &str, code: u16, text: &str) -> FaultRule {
    FaultRule {
        recipient: to.into(),
        phase: Phase::Rcpt,
        action: Action::Reply {
            code,
            text: text.into(),
        },
        times: None,
    }
}

async fn send(world: &World, to: &str, category: &str) -> String {
    let body = json!({"to": to, "subject": "Spring", "text": "The words", "category": category,
        "metadata": {"order": "7"}, "tags": ["spring"]});
    let (status, mail) = world.post("/emails", &body).await;
    assert_eq!(status, 202, "{mail}");
    mail["id"].as_str().unwrap().to_owned()
}

async fn email(world: &World, id: &str) -> Value {
    world.get(&format!("/emails/{id}?include=content")).await
}

async fn settled(world: &World, id: &str) -> Value {
    world
        .env
        .wait_until(LONG, "the mail to end", async || {
            world.task(id).await["finished_at"].is_string()
        })
        .await;
    email(world, id).await["recipients"][0].clone()
}

#[tokio::test]
async fn a_mailbox_that_does_not_exist_is_suppressed_and_a_policy_is_not() {
    let world = World::started("outcomes_hard", &SETTINGS).await;
    world
        .inbox
        .set_faults(vec![
            refuse("gone@example.com", 550, "5.1.1 No such user"),
            refuse("picky@example.com", 550, "5.7.1 We don't like your network"),
            refuse("later@example.com", 451, "4.2.0 Try later"),
        ])
        .unwrap();
    let gone = settled(
        &world,
        &send(&world, "Gone@example.com", "transactional").await,
    )
    .await;
    assert_eq!(gone["outcome"], "bounced");
    assert_eq!(gone["error"]["code"], "smtp_permanent");
    let picky = settled(
        &world,
        &send(&world, "picky@example.com", "transactional").await,
    )
    .await;
    assert_eq!(picky["outcome"], "bounced");
    let later = send(&world, "later@example.com", "transactional").await;
    world.wait_for(&later, "RETRYING").await;
    let later = email(&world, &later).await["recipients"][0].clone();
    assert_eq!(
        (&later["outcome"], &later["timeline"][1]["event"]),
        (&json!("deferred"), &json!("deferred"))
    );

    let rows = world.get("/suppressions").await["items"].clone();
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
    assert_eq!(
        (
            &rows[0]["address"],
            &rows[0]["reason"],
            &rows[0]["category"],
            &rows[0]["task"]
        ),
        (
            &json!("gone@example.com"),
            &json!("hard_bounce"),
            &Value::Null,
            &gone["id"]
        )
    );
    // Even a mail that was accepted before this was known is not sent.
    world.inbox.set_faults(Vec::new()).unwrap();
    let body = json!({"kind": "email.send", "payload": {"to": "gone@example.com", "subject": "Hi", "text": "x"}});
    let late = world.accept(&body).await;
    let task = world.wait_for(&late, "CANCELLED").await;
    assert_eq!(task["error"]["code"], "recipient_suppressed");
    assert_eq!(
        email(&world, &late).await["recipients"][0]["outcome"],
        "suppressed"
    );
    let dead = world.env.queue_depth("warren.dead").await;
    assert_eq!(dead, 2, "only what was refused for good");
    world
        .delete(&format!(
            "/suppressions/{}",
            rows[0]["id"].as_str().unwrap()
        ))
        .await;
    world
        .post(&format!("/tasks/{late}/retry"), &json!({}))
        .await;
    assert_eq!(settled(&world, &late).await["outcome"], "sent");
    world.env.purge("warren.dead").await;
    world
        .post(
            "/tasks/cancel",
            &json!({"filter": {"status": ["RETRYING"]}}),
        )
        .await;
    world.finish().await;
}

#[tokio::test]
async fn a_mail_is_shown_with_what_it_said_unless_it_is_security() {
    let world = World::started("outcomes_content", &SETTINGS).await;
    let plain = send(&world, "ada@example.com", "transactional").await;
    let sent = settled(&world, &plain).await;
    assert_eq!(sent["outcome"], "sent");
    assert!(sent["reply"].as_str().unwrap().starts_with("250 "));
    let events: Vec<_> = sent["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["event"].clone())
        .collect();
    assert_eq!(events, ["accepted", "sent"]);
    let shown = email(&world, &plain).await;
    assert_eq!(
        (
            &shown["metadata"]["order"],
            &shown["tags"][0],
            &shown["to"][0]
        ),
        (&json!("7"), &json!("spring"), &json!("ada@example.com"))
    );
    assert_eq!(
        (&shown["content"]["subject"], &shown["content"]["text"]),
        (&json!("Spring"), &json!("The words"))
    );

    let secret = send(&world, "bob@example.com", "security").await;
    let task = world.get(&format!("/tasks/{secret}?include=payload")).await;
    assert_eq!(
        (&task["priority"], &task["payload"]["text"]),
        (&json!(8), &Value::Null)
    );
    assert_eq!(settled(&world, &secret).await["outcome"], "sent");
    let shown = email(&world, &secret).await;
    assert_eq!(
        (
            &shown["content"],
            &shown["content_removed"],
            &shown["metadata"]["order"]
        ),
        (&Value::Null, &json!(true), &json!("7"))
    );
    let kept = format!(
        "select count(*) from tasks where id = '{secret}' and payload::text ~ 'words|Spring'"
    );
    assert_eq!(world.env.sql::<i64>(&kept).await, 0);
    let mail = world
        .inbox
        .wait_for_recipient("bob@example.com", LONG)
        .await
        .unwrap();
    assert!(mail.parsed().text.contains("The words"));
    // A mail whose content is gone is not sent empty.
    world
        .post(
            &format!("/tasks/{secret}/resolve"),
            &json!({"status": "FAILED"}),
        )
        .await;
    world
        .env
        .execute(&format!(
            "update tasks set status = 'FAILED' where id = '{secret}'"
        ))
        .await;
    world
        .post(&format!("/tasks/{secret}/retry"), &json!({}))
        .await;
    let again = world.wait_for(&secret, "FAILED").await;
    world
        .env
        .wait_until(LONG, "the second attempt to fail", async || {
            world.task(&secret).await["error"]["code"] == "content_removed"
        })
        .await;
    assert_eq!(again["kind"], "email.send");
    assert_eq!(world.inbox.count(), 2);
    world.env.purge("warren.dead").await;
    world.finish().await;
}

#[tokio::test]
async fn one_click_unsubscribes() {
    let world = World::started("outcomes_unsubscribe", &SETTINGS).await;
    let id = send(&world, "ada@example.com", "marketing").await;
    settled(&world, &id).await;
    let mail = world
        .inbox
        .wait_for_recipient("ada@example.com", LONG)
        .await
        .unwrap();
    assert_eq!(
        mail.header("List-Unsubscribe-Post").unwrap(),
        "List-Unsubscribe=One-Click"
    );
    let link = mail.header("List-Unsubscribe").unwrap();
    let path = link
        .trim_matches(['<', '>'])
        .strip_prefix("https://mail.example.com")
        .unwrap();
    assert!(!link.contains("ada"));

    // A look changes nothing.
    let page = world.open("GET", path, "").await;
    assert_eq!(page.0, 200);
    assert!(page.1.contains("<form method=\"post\">") && !page.1.contains("ada"));
    let list = async || world.get("/suppressions").await["items"].clone();
    assert_eq!(list().await, json!([]));
    let done = world.open("POST", path, "List-Unsubscribe=One-Click").await;
    assert_eq!(done.0, 200, "{}", done.1);
    assert_eq!(world.open("POST", path, "").await.0, 200);
    let rows = list().await;
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(
        (&rows[0]["reason"], &rows[0]["category"]),
        (&json!("unsubscribe"), &json!("marketing"))
    );
    let forged = format!("{}A", &path[..path.len() - 1]);
    assert_eq!(world.open("POST", &forged, "").await.0, 404);

    let shown = email(&world, &id).await["recipients"][0]["timeline"].clone();
    assert_eq!(shown[2]["event"], "unsubscribed");
    let again = send(&world, "ada@example.com", "marketing").await;
    assert_eq!(settled(&world, &again).await["outcome"], "suppressed");
    let receipt = send(&world, "ada@example.com", "transactional").await;
    assert_eq!(settled(&world, &receipt).await["outcome"], "sent");
    world.finish().await;
}

fn bounce(to: &str, action: &str, status: &str) -> String {
    format!(
        "From: MAILER-DAEMON@mx.example\r\nTo: {to}\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nSorry\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n\
         Final-Recipient: rfc822; other@forwarded.example\r\nAction: {action}\r\nStatus: {status}\r\n\
         Diagnostic-Code: smtp; 550 no such user\r\n\r\n--b--\r\n"
    )
}

#[tokio::test]
async fn a_bounce_that_comes_later_finds_its_mail() {
    let world = World::started("outcomes_bounce", &SETTINGS).await;
    let id = send(&world, "ada@example.com", "transactional").await;
    settled(&world, &id).await;
    let mail = world
        .inbox
        .wait_for_recipient("ada@example.com", LONG)
        .await
        .unwrap();
    let path = mail.envelope_from.clone();
    assert!(
        path.starts_with("bounce+") && path.ends_with("@bounces.example.com"),
        "{path}"
    );
    assert!(!path.contains("ada"));

    let report = async |raw: String| world.post_raw("/bounces", "message/rfc822", raw).await;
    let late = report(bounce(&path, "delayed", "4.4.1")).await;
    assert_eq!(
        (&late["event"], &late["suppressed"], &late["email"]),
        (&json!("delayed"), &json!(false), &json!(id))
    );
    let policy = report(bounce(&path, "failed", "5.7.1")).await;
    assert_eq!(
        (&policy["event"], &policy["suppressed"]),
        (&json!("bounced"), &json!(false))
    );
    let hard = report(bounce(&path, "failed", "5.1.1")).await;
    assert_eq!(
        (&hard["event"], &hard["suppressed"]),
        (&json!("bounced"), &json!(true))
    );
    report(bounce(&path, "failed", "5.1.1")).await;
    let forged = report(bounce(
        "bounce+0000000000000000000000000000000000000000@bounces.example.com",
        "failed",
        "5.1.1",
    ))
    .await;
    assert_eq!(forged["event"], "ignored");

    let shown = email(&world, &id).await["recipients"][0].clone();
    assert_eq!(shown["outcome"], "bounced");
    let events: Vec<_> = shown["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["event"].clone())
        .collect();
    assert_eq!(
        events,
        ["accepted", "sent", "delayed", "bounced", "bounced"]
    );
    // Whoever it was forwarded to, it is our recipient that gets no more.
    let rows = world.get("/suppressions").await["items"].clone();
    assert_eq!(
        (rows.as_array().unwrap().len(), &rows[0]["address"]),
        (1, &json!("ada@example.com"))
    );

    // So do codes.
    let asked = json!({"recipient": "bob@example.com", "purpose": "login"});
    world.post("/verifications", &asked).await;
    let mail = world
        .inbox
        .wait_for_recipient("bob@example.com", LONG)
        .await
        .unwrap();
    let hard = report(bounce(&mail.envelope_from, "failed", "5.1.1")).await;
    assert_eq!(hard["suppressed"], true, "{hard}");
    let rows = world.get("/suppressions").await["items"].clone();
    assert!(rows.to_string().contains("bob@example.com"));
    world.finish().await;
}

#[tokio::test]
async fn what_is_secret_goes_with_every_end() {
    // Nobody tidies up meanwhile.
    let settings = [("retention.every_s", "3600")];
    let mut world = World::without_mailer("outcomes_secret", &settings).await;
    let send = async |fields: Value| {
        let mut body = json!({"to": "ada@example.com", "subject": "Reset", "text": "The secret", "category": "security"});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let (_, answer) = world.post("/emails", &body).await;
        answer["id"].as_str().unwrap().to_owned()
    };
    let cancelled = send(json!({"delay": 3600})).await;
    let expired = send(json!({})).await;
    world
        .post("/suppressions", &json!({"address": "eve@example.com"}))
        .await;
    let suppressed = send(json!({"to": "eve@example.com"})).await;
    world
        .env
        .execute(&format!(
            "update tasks set useful_until = now() - interval '1 second' where id = '{expired}'"
        ))
        .await;
    world
        .post(&format!("/tasks/{cancelled}/cancel"), &json!({}))
        .await;
    world.start_mailer();
    world.wait_for(&expired, "EXPIRED").await;
    for id in [cancelled, expired, suppressed] {
        let task = world.get(&format!("/tasks/{id}?include=payload")).await;
        assert_eq!(task["payload"]["content_removed"], true, "{task}");
    }
    assert_eq!(world.tables_with("The secret").await, Vec::<String>::new());
    world.finish().await;
}
