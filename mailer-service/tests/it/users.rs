//! People who sign up, and who are erased.

use crate::world::{LONG, World};
use api_service::auth::Scope;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

const SETTINGS: [(&str, &str); 4] = [
    (
        "secrets.peppers",
        "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    ),
    ("http.public_url", "https://id.example.com"),
    ("mail.product", "Acme"),
    ("retention.every_s", "1"),
];

async fn sign_up(world: &World, email: &str) -> Value {
    let body = json!({"email": email, "username": "Ada"});
    let (status, user) = world.post("/users", &body).await;
    assert_eq!(status, 201, "{user}");
    user
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

fn problem(answer: &Value) -> &str {
    text(answer, "type").trim_start_matches("/problems/")
}

/// The events that the queue has heard, as name and subject.
async fn events(world: &World, count: u64) -> Vec<(String, String)> {
    world
        .env
        .wait_until(LONG, "the events", async || {
            world.env.queue_depth("heard").await >= count
        })
        .await;
    let messages = world.env.get_messages("heard", 100).await;
    messages
        .iter()
        .map(|message| {
            let body: Value = serde_json::from_str(&message.payload).unwrap();
            assert_eq!(message.routing_key, body["event"]);
            assert_eq!(message.properties["message_id"], body["id"]);
            assert!(!message.payload.contains('@'));
            (text(&body, "event").into(), text(&body, "subject").into())
        })
        .collect()
}

#[tokio::test]
async fn who_signs_up_is_welcomed_once() {
    let world = World::started("users_sign_up", &SETTINGS).await;
    world
        .env
        .bind_queue("heard", "warren.events", "user.*")
        .await;
    let body = json!({"email": "Ada@Example.com", "username": " Ada [x](https://evil.example) ", "locale": "zh-CN"});
    let (status, refused) = world.post("/users", &body).await;
    assert_eq!(
        (status.as_u16(), &refused["errors"][0]["pointer"]),
        (422, &json!("/username"))
    );
    let body = json!({"email": "Ada@Example.com", "username": "Ada", "locale": "zh-CN"});
    // Twenty at once, of which one is first; repeats of that one get its answer.
    let all = join_all((0..20).map(|n| {
        let (world, body, key) = (&world, &body, format!("k{}", n % 10));
        async move { world.post_keyed("/users", &key, body).await }
    }))
    .await;
    let created: Vec<_> = all.iter().filter(|(status, _)| *status == 201).collect();
    assert!((1..=2).contains(&created.len()), "{all:?}");
    assert!(all.iter().all(|(status, _)| [201, 409].contains(status)));
    let user: Value = serde_json::from_str(&created[0].1).unwrap();
    assert_eq!(created[0].1, created[created.len() - 1].1);
    let (_, other) = world
        .post(
            "/users",
            &json!({"email": "ADA@example.com", "username": "Eve"}),
        )
        .await;
    assert_eq!(problem(&other), "user-exists");
    assert!(text(&other, "detail").contains(text(&user, "id")));

    let mail = world
        .inbox
        .wait_for_recipient("Ada@example.com", LONG)
        .await
        .unwrap();
    let parsed = mail.parsed();
    assert!(parsed.subject.contains("Acme") && parsed.subject.contains("Ada"));
    assert!(parsed.subject.contains('欢'), "{}", parsed.subject);
    assert_eq!(parsed.to[0].name, "Ada");
    let id = text(&user, "id").to_owned();
    assert_eq!(
        events(&world, 1).await,
        [("user.created".to_owned(), id.clone())]
    );

    // The proof of the address is the user's, whatever it was asked for.
    assert_eq!(user["verified_at"], Value::Null);
    let asked = json!({"recipient": "ada@EXAMPLE.com", "purpose": "login"});
    let (_, verification) = world.post("/verifications", &asked).await;
    let mails = world
        .inbox
        .wait_for_mails_to("ada@example.com", 2, LONG)
        .await
        .unwrap();
    let subject = mails[1].parsed().subject;
    let code = subject
        .split_whitespace()
        .find(|word| word.len() == 6 && word.bytes().all(|b| b.is_ascii_digit()))
        .unwrap()
        .to_owned();
    let path = format!("/verifications/{}/check", text(&verification, "id"));
    let (status, proof) = world.post(&path, &json!({"code": code})).await;
    assert_eq!(status, 200, "{proof}");
    let shown = world.get(&format!("/users/{id}")).await;
    assert!(shown["verified_at"].is_string(), "{shown}");
    assert_eq!(events(&world, 2).await[1], ("user.verified".into(), id));
    let listed = world.get("/users?email=ADA@example.com").await;
    assert_eq!(listed["items"], json!([shown]));

    // Who has shown it before is verified from the beginning.
    let with_receipt =
        |email: &str| json!({"email": email, "username": "Ada", "receipt": proof["receipt"]});
    let (_, refused) = world.post("/users", &with_receipt("bob@example.com")).await;
    assert_eq!(refused["errors"][0]["pointer"], "/receipt");
    assert_eq!(world.inbox.count(), 2);
    world.finish().await;
}

#[tokio::test]
async fn who_may_only_verify_does_not_learn_who_has_signed_up() {
    let world = World::started("users_open", &SETTINGS).await;
    sign_up(&world, "known@example.com").await;
    world
        .post("/suppressions", &json!({"address": "blocked@example.com"}))
        .await;
    world
        .inbox
        .wait_for_recipient("known@example.com", LONG)
        .await
        .unwrap();
    let open = world.key_with(&[Scope::Verify]).await;
    let mut answers = Vec::new();
    for email in [
        "new@example.com",
        "known@example.com",
        "KNOWN@example.com",
        "blocked@example.com",
        "new@example.com",
    ] {
        let body = json!({"email": email, "username": "Ada", "client_address": "203.0.113.9"});
        answers.push(world.post_as(&open, "/users", &body).await);
    }
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    assert_eq!(answers[0].0, 202);
    world
        .inbox
        .wait_for_recipient("new@example.com", LONG)
        .await
        .unwrap();
    world.wait_until_queues_are_empty().await;
    assert_eq!(world.inbox.count(), 2);
    assert_eq!(world.env.sql::<i64>("select count(*) from users").await, 3);
    let limited = join_all((0..40).map(|n| {
        let body = json!({"email": format!("n{n}@example.com"), "username": "Ada", "client_address": "203.0.113.9"});
        let (world, open) = (&world, &open);
        async move { world.post_as(open, "/users", &body).await.0 }
    }))
    .await;
    assert_eq!(limited.iter().filter(|status| **status == 202).count(), 25);
    assert_eq!(limited.iter().filter(|status| **status == 429).count(), 15);
    world.finish().await;
}

/// Whatever a product does with somebody. Returns a task that waits, and that of another's copy.
async fn leave_traces(world: &World) -> (String, String) {
    let send = async |body: Value| {
        let key = format!("ada.l@example.com {}", body["subject"]).replace([' ', '"'], "-");
        world.post_keyed("/emails", &key, &body).await
    };
    send(json!({"to": "ada.l@example.com", "subject": "A secret", "text": "Dear Countess", "metadata": {"name": "Lovelace"}, "tags": ["user:ada.l@example.com"]})).await;
    send(json!({"to": ["Ada Lovelace <ADA.L@example.com>", "xada.l@example.com"], "cc": "bob@example.com", "subject": "Group", "text": "To all"})).await;
    let (_, later) =
        send(json!({"to": "ada.l@example.com", "subject": "Later", "text": "Soon", "delay": 3600}))
            .await;
    let later: Value = serde_json::from_str(&later).unwrap();
    let scheduled = text(&later["tasks"][0], "id").to_owned();
    world
        .accept(&json!({"kind": "demo.noop", "payload": {}, "tags": ["of ada.l@example.com"], "limit_key": "user:ada.l@example.com"}))
        .await;
    world
        .post(
            "/verifications",
            &json!({"recipient": "ada.l@example.com", "purpose": "login"}),
        )
        .await;
    world
        .post(
            "/suppressions",
            &json!({"address": "ada.l@example.com", "category": "marketing", "detail": "said so"}),
        )
        .await;
    world.inbox.wait_for_count(6, LONG).await.unwrap();
    let bob = "select id from tasks where payload->>'recipient' = 'bob@example.com'";
    let bob: String = world.env.sql(bob).await;
    world.wait_for(&bob, "COMPLETED").await;
    (scheduled, bob)
}

#[tokio::test]
async fn of_a_person_who_is_erased_nothing_is_left() {
    // How long a task may be on its way to disk.
    let quick = [
        ("accept.patience_ms", "500"),
        ("rescue.clock_skew_s", "0.1"),
    ];
    let settings: Vec<_> = SETTINGS.into_iter().chain(quick).collect();
    let world = World::started("users_erase", &settings).await;
    world
        .env
        .bind_queue("heard", "warren.events", "user.deleted")
        .await;
    let user = sign_up(&world, "Ada.L@example.com").await;
    let path = format!("/users/{}", text(&user, "id"));
    let (scheduled, bob) = leave_traces(&world).await;
    let before = world.tables_with("ada.l@example.com").await;
    for table in [
        "users",
        "tasks",
        "verifications",
        "suppressions",
        "idempotency_keys",
    ] {
        assert!(before.contains(&table.to_owned()), "{table}: {before:?}");
    }

    let (status, erasure) = world.send(Method::DELETE, &path, &Value::Null).await;
    assert_eq!(
        (status.as_u16(), &erasure["state"]),
        (202, &json!("running"))
    );
    let done = format!("/erasures/{}", text(&user, "id"));
    world
        .env
        .wait_until(LONG, "the erasure", async || {
            world.get(&done).await["state"] == "finished"
        })
        .await;
    // What has another address is somebody else's.
    assert_eq!(
        world.tables_with("xada.l@example.com").await.len(),
        2,
        "a task, and an answer"
    );
    let theirs = "select count(*) from tasks t where t::text ~* '[^x]ada\\.l@example\\.com'";
    assert_eq!(world.env.sql::<i64>(theirs).await, 0);
    for text in ["Lovelace", "Countess", "A secret"] {
        assert_eq!(
            world.tables_with(text).await,
            Vec::<String>::new(),
            "{text}"
        );
    }
    for table in [
        "users",
        "verifications",
        "verification_recipients",
        "suppressions",
        "erasures",
    ] {
        let count =
            format!("select count(*) from {table} t where t::text ilike '%ada.l@example.com%'");
        assert_eq!(world.env.sql::<i64>(&count).await, 0, "{table}");
    }
    assert_eq!(world.task(&scheduled).await["status"], "CANCELLED");
    let mail = world.get(&format!("/tasks/{bob}?include=payload")).await;
    assert_eq!(mail["payload"]["text"], "To all");
    assert_eq!(mail["payload"]["to"][0], "erased@erased.invalid");
    assert_eq!(
        world.get(&format!("/emails/{scheduled}")).await["recipients"][0]["outcome"],
        "cancelled"
    );
    assert_eq!(events(&world, 1).await[0].1, text(&user, "id"));

    // The wish for no marketing lives on, and nobody else's is touched.
    let advert = json!({"to": "Ada.L@example.com", "subject": "Buy", "text": "Now", "category": "marketing"});
    let (_, answer) = world.post("/emails", &advert).await;
    assert_eq!(answer["tasks"][0]["suppressed"], true, "{answer}");
    assert_eq!(world.send(Method::DELETE, &path, &Value::Null).await.0, 404);
    sign_up(&world, "ada.l@example.com").await;
    world.finish().await;
}
