//! Codes that prove that somebody reads an address: from the request to the mail, and back.

mod abuse;
mod secrecy;

use crate::world::{LONG, World};
use futures_util::future::join_all;
use serde_json::{Value, json};

const PEPPER: &str = "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const SETTINGS: [(&str, &str); 3] = [
    ("secrets.peppers", PEPPER),
    ("http.public_url", "https://id.example.com"),
    ("verification.cooldown_s", "0"),
];

/// Those settings and others, which win.
fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    SETTINGS.iter().chain(more).copied().collect()
}

async fn ask(world: &World, recipient: &str) -> Value {
    let body = json!({"recipient": recipient, "purpose": "login"});
    let (status, answer) = world.post("/verifications", &body).await;
    assert_eq!(status, 201, "{answer}");
    answer
}

fn id(answer: &Value) -> String {
    answer["id"].as_str().unwrap().to_owned()
}

/// The subject's code of the mail to that address, of so many.
async fn code(world: &World, recipient: &str, mails: usize) -> String {
    let mails = world
        .inbox
        .wait_for_mails_to(recipient, mails, LONG)
        .await
        .unwrap();
    let subject = mails.last().unwrap().parsed().subject;
    subject
        .split_whitespace()
        .find(|word| {
            word.len() >= 6
                && word
                    .bytes()
                    .all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
        })
        .unwrap()
        .to_owned()
}

async fn check(world: &World, id: &str, code: &str) -> (u16, Value) {
    let (status, answer) = world
        .post(
            &format!("/verifications/{id}/check"),
            &json!({"code": code}),
        )
        .await;
    (status.as_u16(), answer)
}

fn problem(answer: &Value) -> &str {
    answer["type"]
        .as_str()
        .unwrap_or_default()
        .trim_start_matches("/problems/")
}

/// Another code of the same form.
fn wrong(code: &str) -> String {
    let first = if code.starts_with('1') { '2' } else { '1' };
    format!("{first}{}", &code[1..])
}

#[tokio::test]
async fn a_code_is_right_once() {
    let world = World::started("verify_once", &SETTINGS).await;
    let asked = ask(&world, "Ada@example.com").await;
    assert_eq!(asked["resend_after"], 0);
    let id = id(&asked);
    let code = code(&world, "Ada@example.com", 1).await;
    let (status, answer) = check(&world, &id, &wrong(&code)).await;
    assert_eq!(
        (status, problem(&answer), &answer["tries_left"]),
        (422, "wrong-code", &json!(4))
    );
    let typed = format!("{} {}", &code[..3], &code[3..]);
    let (status, verified) = check(&world, &id, &typed).await;
    assert_eq!(
        (status, &verified["recipient"]),
        (200, &json!("Ada@example.com")),
        "{verified}"
    );
    let (status, answer) = check(&world, &id, &code).await;
    assert_eq!((status, problem(&answer)), (410, "verification-over"));

    let receipt = &verified["receipt"];
    let (status, read) = world
        .post("/verifications/receipts", &json!({"receipt": receipt}))
        .await;
    assert_eq!(
        (status.as_u16(), &read["purpose"], &read["verification"]),
        (200, &json!("login"), &json!(id))
    );
    let forged = format!("{}x", receipt.as_str().unwrap());
    let (_, refused) = world
        .post("/verifications/receipts", &json!({"receipt": forged}))
        .await;
    assert_eq!(problem(&refused), "invalid-receipt");

    let task = world.get("/tasks?kind=email.code").await["items"][0].clone();
    assert_eq!(
        (&task["priority"], &task["useful_until"]),
        (&json!(8), &asked["expires_at"])
    );
    world
        .wait_for(task["id"].as_str().unwrap(), "COMPLETED")
        .await;
    let shown = world.get(&format!("/verifications/{id}")).await;
    assert_eq!(
        (
            &shown["state"],
            &shown["tries"],
            &shown["delivery"]["status"]
        ),
        (&json!("verified"), &json!(2), &json!("COMPLETED"))
    );
    assert!(shown["verified"]["receipt"].is_string());
    let counts = world.get("/verifications/statistics?hours=1").await["purposes"][0].clone();
    assert_eq!(
        (&counts["purpose"], &counts["verified"], &counts["sent"]),
        (&json!("login"), &json!(1), &json!(1))
    );
    assert!(counts["median_seconds_to_verify"].as_f64().unwrap() > 0.0);
    world.finish().await;
}

#[tokio::test]
async fn of_a_hundred_right_codes_at_once_one_is_taken() {
    let world = World::started("verify_parallel", &SETTINGS).await;
    let id = id(&ask(&world, "ada@example.com").await);
    let code = code(&world, "ada@example.com", 1).await;
    let answers = join_all((0..100).map(|_| check(&world, &id, &code))).await;
    let right = answers.iter().filter(|(status, _)| *status == 200).count();
    let over = answers.iter().filter(|(status, _)| *status == 410).count();
    assert_eq!((right, over), (1, 99), "{answers:?}");
    // That was nobody's guessing.
    let again = self::id(&ask(&world, "ada@example.com").await);
    let code = self::code(&world, "ada@example.com", 2).await;
    assert_eq!(check(&world, &again, &code).await.0, 200);
    world.finish().await;
}

#[tokio::test]
async fn the_same_code_is_sent_again_until_it_is_of_no_use() {
    let settings = with(&[("verification.max_per_hour", "12")]);
    let world = World::started("verify_again", &settings).await;
    let first = ask(&world, "ada@example.com").await;
    let id = id(&first);
    let one = code(&world, "ada@example.com", 1).await;
    let again = ask(&world, "ada@example.com").await;
    assert_eq!(
        (&again["id"], &again["expires_at"]),
        (&first["id"], &first["expires_at"])
    );
    assert_eq!(code(&world, "ada@example.com", 2).await, one);
    let resend = format!("/verifications/{id}/resend");
    let (status, again) = world.post(&resend, &json!({"locale": "zh-CN"})).await;
    assert_eq!(
        (status.as_u16(), &again["expires_at"]),
        (200, &first["expires_at"])
    );
    world
        .inbox
        .wait_for_mails_to("ada@example.com", 3, LONG)
        .await
        .unwrap();
    let mails = world.inbox.messages();
    let subject = mails.last().unwrap().parsed().subject;
    assert!(
        subject.contains("验证码") && subject.contains(&one),
        "{subject}"
    );

    // Its tries are used up: another one, and the old one is dead.
    for left in (0..5).rev() {
        let (_, answer) = check(&world, &id, &wrong(&one)).await;
        assert_eq!(answer["tries_left"], left);
    }
    assert_eq!(check(&world, &id, &one).await.0, 410);
    world.post(&resend, &json!({"locale": "en"})).await;
    let two = code(&world, "ada@example.com", 4).await;
    assert_ne!(one, two);
    assert_eq!(problem(&check(&world, &id, &one).await.1), "wrong-code");

    // Its time is over: likewise.
    world
        .env
        .execute(&format!(
            "update verifications set expires_at = now() - interval '1 second' where id = '{id}'"
        ))
        .await;
    let (status, answer) = check(&world, &id, &two).await;
    assert_eq!((status, problem(&answer)), (410, "verification-over"));
    world.post(&resend, &json!({})).await;
    let three = code(&world, "ada@example.com", 5).await;
    assert_eq!(check(&world, &id, &two).await.0, 422);
    assert_eq!(check(&world, &id, &three).await.0, 200);
    let (status, answer) = world.post(&resend, &json!({})).await;
    assert_eq!(
        (status.as_u16(), problem(&answer)),
        (410, "verification-over")
    );
    world.finish().await;
}

#[tokio::test]
async fn an_expired_code_is_never_sent() {
    let mut world = World::without_mailer("verify_late", &SETTINGS).await;
    let id = id(&ask(&world, "ada@example.com").await);
    world
        .env
        .execute("update tasks set useful_until = now() - interval '1 second'")
        .await;
    world.start_mailer();
    let task: String = world
        .env
        .sql(&format!(
            "select task_id from verifications where id = '{id}'"
        ))
        .await;
    world.wait_for(&task, "EXPIRED").await;
    assert_eq!(world.inbox.count(), 0);
    world.finish().await;
}

#[tokio::test]
async fn a_link_is_opened_by_a_post_alone() {
    let world = World::started("verify_link", &SETTINGS).await;
    let body = json!({"recipient": "ada@example.com", "purpose": "login", "form": "link"});
    let (_, asked) = world.post("/verifications", &body).await;
    let mail = world
        .inbox
        .wait_for_recipient("ada@example.com", LONG)
        .await
        .unwrap();
    let text = mail.parsed().text;
    let (_, rest) = text.split_once("<https://id.example.com/magic/").unwrap();
    let token = rest.split_once('>').unwrap().0;
    assert!(token.len() >= 32 + 22, "at least 128 bits beside the id");
    let path = format!("/magic/{token}");
    let state =
        async || world.get(&format!("/verifications/{}", id(&asked))).await["state"].clone();
    for _ in 0..3 {
        let page = world.open("GET", &path, "").await;
        assert!(page.0 == 200 && page.1.contains("<form method=\"post\">"));
    }
    assert_eq!(state().await, "pending");
    let forged = format!("/magic/{}A", &token[..token.len() - 1]);
    assert_eq!(world.open("POST", &forged, "").await.0, 404);
    let all = join_all((0..20).map(|_| world.open("POST", &path, ""))).await;
    assert_eq!(all.iter().filter(|page| page.0 == 200).count(), 1);
    assert_eq!(state().await, "verified");
    assert_eq!(world.open("GET", &path, "").await.0, 410);
    world.finish().await;
}

#[tokio::test]
async fn who_did_not_ask_gets_no_more_of_them() {
    let world = World::started("verify_not_me", &SETTINGS).await;
    let asked = id(&ask(&world, "ada@example.com").await);
    let code = code(&world, "ada@example.com", 1).await;
    let mail = world
        .inbox
        .wait_for_recipient("ada@example.com", LONG)
        .await
        .unwrap();
    let text = mail.parsed().text;
    let (_, rest) = text.split_once("<https://id.example.com/not-me/").unwrap();
    let path = format!("/not-me/{}", rest.split_once('>').unwrap().0);
    assert_eq!(world.open("GET", &path, "").await.0, 200);
    assert_eq!(world.get("/suppressions").await["items"], json!([]));
    assert_eq!(world.open("POST", &path, "").await.0, 200);
    assert_eq!(check(&world, &asked, &code).await.0, 410);
    let row = world.get("/suppressions").await["items"][0].clone();
    assert_eq!(
        (&row["reason"], &row["purpose"], &row["category"]),
        (&json!("not_requested"), &json!("login"), &json!("security"))
    );

    // For this purpose; another one is none of it.
    let second = id(&ask(&world, "ada@example.com").await);
    let shown = world.get(&format!("/verifications/{second}")).await;
    assert_eq!(
        (
            &shown["delivery"]["status"],
            &shown["delivery"]["error"]["code"]
        ),
        (&json!("CANCELLED"), &json!("recipient_suppressed"))
    );
    let body = json!({"recipient": "ada@example.com", "purpose": "signup"});
    world.post("/verifications", &body).await;
    world
        .inbox
        .wait_for_mails_to("ada@example.com", 2, LONG)
        .await
        .unwrap();
    assert_eq!(world.inbox.count(), 2);
    world.finish().await;
}

#[tokio::test]
async fn codes_outlive_a_change_of_the_secret_and_not_their_time() {
    let settings = with(&[
        ("retention.every_s", "1"),
        ("verification.form", "letters8"),
    ]);
    let world = World::started("verify_rotation", &settings).await;
    let asked = id(&ask(&world, "ada@example.com").await);
    let code = code(&world, "ada@example.com", 1).await;
    assert_eq!(code.len(), 8);
    let mut config = world.config().clone();
    config.secrets.peppers =
        format!("k2:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE= {PEPPER}").into();
    let stop = tokio_util::sync::CancellationToken::new();
    let changed = api_service::service::start(&config, stop.clone()).unwrap();
    let path = format!("http://{}/api/v1/verifications", changed.api_addr);
    let answer = world
        .post_to(
            &format!("{path}/{asked}/check"),
            &json!({"code": code.to_lowercase()}),
        )
        .await;
    assert_eq!(answer.0, 200, "{}", answer.1);
    stop.cancel();
    changed.wait().await.unwrap();

    let old = "update verifications set created_at = now() - interval '8 days', expires_at = now() - interval '8 days'";
    world.env.execute(old).await;
    world
        .env
        .wait_until(LONG, "old verifications to be deleted", async || {
            world
                .env
                .sql::<i64>("select count(*) from verifications")
                .await
                == 0
        })
        .await;
    world.finish().await;
}
