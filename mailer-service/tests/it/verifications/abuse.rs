//! Those who ask for codes, and guess them, with many requests at once.

use super::{SETTINGS, ask, check, code, id, problem, with, wrong};
use crate::world::{LONG, World};
use api_service::auth::Scope;
use futures_util::future::join_all;
use serde_json::{Value, json};

#[tokio::test]
async fn a_hundred_guesses_at_once_are_five() {
    let world = World::started("abuse_guess", &SETTINGS).await;
    let id = id(&ask(&world, "ada@example.com").await);
    let code = code(&world, "ada@example.com", 1).await;
    let guess = wrong(&code);
    let answers = join_all((0..100).map(|_| check(&world, &id, &guess))).await;
    let mut left: Vec<_> = answers
        .iter()
        .filter_map(|(_, answer)| answer["tries_left"].as_i64())
        .collect();
    left.sort_unstable();
    assert_eq!(left, [0, 1, 2, 3, 4]);
    assert_eq!(
        answers.iter().filter(|(status, _)| *status == 410).count(),
        95
    );
    assert_eq!(check(&world, &id, &code).await.0, 410);
    world.finish().await;
}

#[tokio::test]
async fn new_codes_give_no_new_day_of_guesses() {
    let settings = with(&[("verification.max_failed_per_day", "7")]);
    let world = World::started("abuse_day", &settings).await;
    let id = id(&ask(&world, "ada@example.com").await);
    let one = code(&world, "ada@example.com", 1).await;
    join_all((0..5).map(|_| check(&world, &id, "x"))).await;
    world
        .post(&format!("/verifications/{id}/resend"), &json!({}))
        .await;
    let two = code(&world, "ada@example.com", 2).await;
    assert_eq!(check(&world, &id, &wrong(&two)).await.1["tries_left"], 4);
    assert_eq!(check(&world, &id, &wrong(&one)).await.1["tries_left"], 3);
    // Not even the right one is looked at now, and the tries are not used up.
    let refused = world
        .raw_post(&format!("/verifications/{id}/check"), &json!({"code": two}))
        .await;
    assert_eq!(refused.0, 429);
    assert!((86_000..=86_400).contains(&refused.1.parse::<u64>().unwrap()));
    assert_eq!(problem(&refused.2), "verification-locked");
    // A code for another purpose is another matter.
    let body = json!({"recipient": "ada@example.com", "purpose": "signup"});
    let (_, other) = world.post("/verifications", &body).await;
    let signup = code(&world, "ada@example.com", 3).await;
    assert_eq!(check(&world, &super::id(&other), &signup).await.0, 200);
    // The next day it is right.
    world
        .env
        .execute("update verification_tries set since = since - interval '1 day'")
        .await;
    assert_eq!(check(&world, &id, &two).await.0, 200);
    world.finish().await;
}

#[tokio::test]
async fn nobody_is_sent_more_than_the_limits_say() {
    let settings = with(&[
        ("verification.cooldown_s", "60"),
        ("verification.max_per_client_hour", "6"),
    ]);
    let world = World::started("abuse_limits", &settings).await;
    let ask = |recipient: String, client: Option<&'static str>| {
        let body = json!({"recipient": recipient, "purpose": "login", "client_address": client});
        let world = &world;
        async move { world.raw_post("/verifications", &body).await }
    };
    // At once: one mail, and everybody else is told when to come again.
    let all = join_all((0..20).map(|_| ask("ada@example.com".into(), None))).await;
    assert_eq!(all.iter().filter(|one| one.0 == 201).count(), 1);
    for (status, retry_after, answer) in all.iter().filter(|one| one.0 != 201) {
        assert_eq!((*status, problem(answer)), (429, "verification-throttled"));
        assert!(
            (1..=61).contains(&retry_after.parse::<u64>().unwrap()),
            "{retry_after}"
        );
    }
    // An hour of five, and a day of twelve, whatever the purpose.
    let shift = |minutes: i64| {
        format!(
            "update verification_recipients set sent = ARRAY(select t - interval '{minutes} minutes' from unnest(sent) t)"
        )
    };
    let mut sent = 1;
    for round in 0..30 {
        world.env.execute(&shift(5)).await;
        let body = json!({"recipient": "ada@example.com", "purpose": format!("p{round}")});
        sent += i32::from(world.raw_post("/verifications", &body).await.0 == 201);
    }
    // 150 minutes later, at five an hour, and never more than twelve.
    assert!((11..=12).contains(&sent), "{sent}");
    let mails = "select count(*) from tasks where kind = 'email.code'";
    assert_eq!(world.env.sql::<i32>(mails).await, sent);

    // One client, many recipients.
    let all =
        join_all((0..20).map(|n| ask(format!("r{n}@example.com"), Some("203.0.113.7")))).await;
    assert_eq!(all.iter().filter(|one| one.0 == 201).count(), 6);
    let refused = all.iter().find(|one| one.0 == 429).unwrap();
    assert!((1..=3600).contains(&refused.1.parse::<u64>().unwrap()));
    // One network of IPv6 is one client.
    let all = join_all((0..20).map(|n| {
        let body = json!({"recipient": format!("v{n}@example.com"), "purpose": "login", "client_address": format!("2001:db8:1:2::{n:x}")});
        let world = &world;
        async move { world.raw_post("/verifications", &body).await }
    })).await;
    assert_eq!(all.iter().filter(|one| one.0 == 201).count(), 6);
    assert_eq!(
        ask("eve@example.com".into(), Some("203.0.113.8")).await.0,
        201
    );
    let kept = "select count(*) from verification_windows where source like '%203.0%'";
    assert_eq!(world.env.sql::<i64>(kept).await, 0);
    world.finish().await;
}

#[tokio::test]
async fn a_key_may_ask_for_so_many_codes() {
    let settings = with(&[("verification.max_per_key_hour", "3")]);
    let world = World::started("abuse_key", &settings).await;
    let key = world.key_with(&[Scope::Submit]).await;
    let all = join_all((0..10).map(|n| {
        let body = json!({"recipient": format!("r{n}@example.com"), "purpose": "login"});
        let (world, key) = (&world, &key);
        async move { world.post_as(key, "/verifications", &body).await.0 }
    }))
    .await;
    assert_eq!(all.iter().filter(|status| **status == 201).count(), 3);
    assert_eq!(all.iter().filter(|status| **status == 429).count(), 7);
    world.finish().await;
}

/// What differs by request is replaced.
fn shape(answer: &Value) -> Vec<(String, String)> {
    let told = answer.as_object().unwrap().iter();
    told.map(|(name, value)| {
        let value = match name.as_str() {
            "id" | "expires_at" | "links" | "instance" => "…".to_owned(),
            _ => value.to_string(),
        };
        (name.clone(), value)
    })
    .collect()
}

#[tokio::test]
async fn who_may_only_verify_learns_nothing_of_a_recipient() {
    let settings = with(&[("verification.cooldown_s", "60")]);
    let world = World::started("abuse_open", &settings).await;
    world
        .post("/suppressions", &json!({"address": "blocked@example.com"}))
        .await;
    ask(&world, "asked@example.com").await;
    world.inbox.wait_for_count(1, LONG).await.unwrap();
    let open = world.key_with(&[Scope::Verify]).await;
    let mut answers = Vec::new();
    for recipient in [
        "new@example.com",
        "blocked@example.com",
        "asked@example.com",
        "new@example.com",
    ] {
        let body = json!({"recipient": recipient, "purpose": "login"});
        answers.push(world.post_as(&open, "/verifications", &body).await);
    }
    world
        .inbox
        .wait_for_recipient("new@example.com", LONG)
        .await
        .unwrap();
    let (status, headers, first) = &answers[0];
    assert_eq!(*status, 201);
    for (other, more, answer) in &answers {
        assert_eq!(
            (other, more, shape(answer)),
            (status, headers, shape(first))
        );
    }
    let ids: std::collections::HashSet<_> = answers.iter().map(|(.., answer)| id(answer)).collect();
    assert_eq!(ids.len(), 4, "not even that somebody has asked before");

    // Nor by guessing, by asking again, or by looking.
    let mut guesses = Vec::new();
    for (.., answer) in &answers {
        let path = format!("/verifications/{}", id(answer));
        let mut all = Vec::new();
        for _ in 0..6 {
            let (status, _, answer) = world
                .post_as(&open, &format!("{path}/check"), &json!({"code": "0"}))
                .await;
            all.push((status, shape(&answer)));
        }
        let (status, _, answer) = world
            .post_as(&open, &format!("{path}/resend"), &json!({}))
            .await;
        all.push((status, shape(&answer)));
        guesses.push(all);
    }
    assert!(guesses.iter().all(|one| *one == guesses[0]), "{guesses:?}");
    // Only one mail went out for it.
    assert_eq!(world.inbox.count(), 2);
    // Whoever may know is told.
    let shown = world
        .get(&format!("/verifications/{}", id(&answers[1].2)))
        .await;
    assert_eq!(shown["delivery"]["error"]["code"], "recipient_suppressed");
    let shown = world
        .get(&format!("/verifications/{}", id(&answers[2].2)))
        .await;
    assert_eq!(shown["delivery"]["error"]["code"], "recipient_throttled");
    let (status, _, _) = world.post_as(&open, "/emails", &json!({})).await;
    assert_eq!(status, 403);
    world.finish().await;
}

#[tokio::test]
async fn resending_tells_nothing_of_others_codes() {
    let settings = with(&[("verification.cooldown_s", "60")]);
    let world = World::started("abuse_resend", &settings).await;
    let open = world.key_with(&[Scope::Verify]).await;
    let mut all = Vec::new();
    for recipient in ["ada@example.com", "bob@example.com", "cid@example.com"] {
        let body = json!({"recipient": recipient, "purpose": "login"});
        let (_, _, asked) = world.post_as(&open, "/verifications", &body).await;
        all.push(id(&asked));
    }
    for id in &all {
        for _ in 0..5 {
            let path = format!("/verifications/{id}/check");
            world.post_as(&open, &path, &json!({"code": "0"})).await;
        }
    }
    // A minute later ada has been sent a code by somebody else, bob has said that he asked for none, and cid nothing.
    world
        .env
        .execute("update verification_recipients set sent = ARRAY(select t - interval '2 minutes' from unnest(sent) t)")
        .await;
    ask(&world, "ada@example.com").await;
    world
        .env
        .execute(&format!(
            "update verifications set state = 'disowned' where id = '{}'",
            all[1]
        ))
        .await;
    world
        .post("/suppressions", &json!({"address": "bob@example.com"}))
        .await;
    let mut seen = Vec::new();
    for id in &all {
        let path = format!("/verifications/{id}");
        let over = world
            .post_as(&open, &format!("{path}/check"), &json!({"code": "0"}))
            .await;
        let again = world
            .post_as(&open, &format!("{path}/resend"), &json!({}))
            .await;
        let wrong = world
            .post_as(&open, &format!("{path}/check"), &json!({"code": "0"}))
            .await;
        let shown = |(status, _, answer): (u16, _, Value)| (status, shape(&answer));
        let at = again.2["expires_at"].as_str().unwrap().to_owned();
        seen.push((shown(over), shown(again), shown(wrong)));
        let at = chrono::DateTime::parse_from_rfc3339(&at).unwrap();
        assert!(
            at > chrono::Utc::now() + chrono::TimeDelta::seconds(500),
            "{at}"
        );
    }
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
    assert_eq!((seen[0].0.0, seen[0].1.0, seen[0].2.0), (410, 200, 422));

    // And nobody's guesses lock those whom the product trusts, or send what was kept back.
    let kept_back = world.get("/tasks?kind=email.code&status=CANCELLED").await["items"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let (status, answer) = world
        .post(&format!("/tasks/{kept_back}/retry"), &json!({}))
        .await;
    assert_eq!(status, 409, "{answer}");
    world.finish().await;
}

#[tokio::test]
async fn mistakes_are_named_and_a_repeat_is_answered_alike() {
    let world = World::started("abuse_input", &SETTINGS).await;
    for (body, place) in [
        (
            json!({"recipient": "nobody", "purpose": "login"}),
            "/recipient",
        ),
        (
            json!({"recipient": "a@b.example", "purpose": "Log in"}),
            "/purpose",
        ),
        (
            json!({"recipient": "a@b.example", "purpose": "login", "locale": "??"}),
            "/locale",
        ),
        (
            json!({"recipient": "a@b.example", "purpose": "login", "channel": "sms"}),
            "/channel",
        ),
        (
            json!({"recipient": "a@b.example", "purpose": "login", "client_address": "x"}),
            "/client_address",
        ),
    ] {
        let (status, answer) = world.post("/verifications", &body).await;
        assert_eq!(
            (status.as_u16(), &answer["errors"][0]["pointer"]),
            (422, &json!(place)),
            "{answer}"
        );
    }
    let (status, answer) = world
        .post("/tasks", &json!({"kind": "email.code", "payload": {}}))
        .await;
    assert_eq!((status.as_u16(), problem(&answer)), (422, "invalid-fields"));
    let body = json!({"recipient": "ada@example.com", "purpose": "login"});
    let first = world.post_keyed("/verifications", "k", &body).await;
    let second = world.post_keyed("/verifications", "k", &body).await;
    assert_eq!((first.0, second.0), (201, 201));
    assert_eq!(first.1, second.1);
    let task = "select count(*) from tasks";
    assert_eq!(world.env.sql::<i64>(task).await, 1);
    world.inbox.wait_for_count(1, LONG).await.unwrap();
    world.finish().await;
}
