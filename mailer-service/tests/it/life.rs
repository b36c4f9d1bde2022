//! The life of a task whose work succeeds.

use crate::world::{LONG, World};
use serde_json::json;
use testkit::inbox::{Action, FaultRule, Phase};

#[tokio::test]
async fn a_mail_is_delivered_and_recorded() {
    let world = World::new("life_delivered").await;
    let id = world
        .mail(
            "Ada Lovelace <ada@example.com>",
            json!({"tags": ["welcome"]}),
        )
        .await;
    let mail = world
        .inbox
        .wait_for_recipient("ada@example.com", LONG)
        .await
        .unwrap();
    assert_eq!(mail.envelope_from, "warren@example.com");
    assert_eq!(mail.header("X-Warren-Task").as_deref(), Some(id.as_str()));
    let parsed = mail.parsed();
    assert_eq!(parsed.subject, "Hello");
    assert_eq!(parsed.text.trim(), "Hi there");
    assert_eq!(parsed.message_id, format!("{id}@example.com"));

    let task = world.wait_for(&id, "COMPLETED").await;
    assert_eq!(task["attempt"], 1);
    assert_eq!(task["result"]["message_id"], format!("{id}@example.com"));
    assert!(
        task["result"]["reply"].as_str().unwrap().starts_with("250"),
        "{task}"
    );
    assert!(task["finished_at"].is_string());
    world.wait_until_queues_are_empty().await;
    world
        .env
        .wait_until(LONG, "the outbox to be empty", async || {
            world.env.sql::<i64>("select count(*) from outbox").await == 0
        })
        .await;
    world.finish().await;
}

#[tokio::test]
async fn every_recipient_of_a_group_gets_the_same_mail() {
    let world = World::new("life_group").await;
    let (status, answer) = world
        .post("/emails", &json!({"to": ["a@example.com", "b@example.com"], "cc": "c@example.com", "bcc": "zed@example.com",
            "subject": "Minutes", "text": "t", "html": "<p>h</p>"}))
        .await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(answer["tasks"].as_array().unwrap().len(), 4);
    let mut message_ids = Vec::new();
    for address in [
        "a@example.com",
        "b@example.com",
        "c@example.com",
        "zed@example.com",
    ] {
        let mail = world.inbox.wait_for_recipient(address, LONG).await.unwrap();
        assert_eq!(mail.envelope_to, [address]);
        let parsed = mail.parsed();
        let to: Vec<_> = parsed.to.iter().map(|m| m.address.as_str()).collect();
        assert_eq!(to, ["a@example.com", "b@example.com"]);
        assert_eq!(parsed.cc[0].address, "c@example.com");
        assert!(
            parsed.bcc.is_empty()
                && !String::from_utf8_lossy(&mail.raw).contains("zed@example.com")
        );
        message_ids.push(parsed.message_id);
    }
    message_ids.dedup();
    assert_eq!(message_ids.len(), 1, "{message_ids:?}");
    world.finish().await;
}

#[tokio::test]
async fn one_bad_recipient_does_not_sink_the_others() {
    let world = World::new("life_bad_recipient").await;
    let (_, answer) = world.post("/emails", &json!({"to": ["a@example.com", "gone+550@example.com", "b@example.com"], "subject": "x", "text": "y"})).await;
    world
        .inbox
        .wait_for_recipient("a@example.com", LONG)
        .await
        .unwrap();
    world
        .inbox
        .wait_for_recipient("b@example.com", LONG)
        .await
        .unwrap();
    let bad = answer["tasks"][1]["id"].as_str().unwrap();
    let task = world.wait_for(bad, "FAILED").await;
    assert_eq!(task["error"]["code"], "smtp_permanent");
    world.finish().await;
}

#[tokio::test]
async fn a_scheduled_task_waits_for_its_time() {
    let world = World::new("life_scheduled").await;
    let run_at = chrono::Utc::now() + chrono::TimeDelta::seconds(2);
    let id = world
        .mail("later@example.com", json!({"run_at": run_at}))
        .await;
    assert_eq!(world.task(&id).await["status"], "SCHEDULED");
    let mail = world
        .inbox
        .wait_for_recipient("later@example.com", LONG)
        .await
        .unwrap();
    assert!(
        mail.received_at >= run_at,
        "{} is before {run_at}",
        mail.received_at
    );
    world.wait_for(&id, "COMPLETED").await;
    world.finish().await;
}

#[tokio::test]
async fn a_task_past_its_use_is_never_run() {
    let mut world = World::without_mailer("life_expired", &[]).await;
    let soon = chrono::Utc::now() + chrono::TimeDelta::seconds(1);
    let stale = world
        .mail("stale@example.com", json!({"useful_until": soon}))
        .await;
    let fresh = world.mail("fresh@example.com", json!({})).await;
    world
        .env
        .wait_until(LONG, "the time to pass", async || chrono::Utc::now() > soon)
        .await;
    world.start_mailer();
    world.wait_for(&fresh, "COMPLETED").await;
    let task = world.wait_for(&stale, "EXPIRED").await;
    assert_eq!(task["attempt"], 0);
    assert_eq!(world.inbox.count(), 1);
    world.finish().await;
}

#[tokio::test]
async fn a_message_for_a_finished_attempt_is_dropped() {
    let world = World::new("life_duplicate").await;
    let id = world.mail("once@example.com", json!({})).await;
    world.wait_for(&id, "COMPLETED").await;
    let body = json!({"id": id, "kind": "email.send", "attempt": 1, "lane": "normal"}).to_string();
    assert!(
        world
            .env
            .publish(
                "warren.tasks",
                "mail.normal",
                json!({"delivery_mode": 2}),
                &body
            )
            .await
    );
    let next = world.mail("next@example.com", json!({})).await;
    world.wait_for(&next, "COMPLETED").await;
    world.wait_until_queues_are_empty().await;
    assert_eq!(world.inbox.count(), 2);
    world.finish().await;
}

#[tokio::test]
async fn a_message_that_nobody_can_read_is_parked() {
    let world = World::new("life_parked").await;
    assert!(
        world
            .env
            .publish(
                "warren.tasks",
                "mail.normal",
                json!({"delivery_mode": 2}),
                "not an envelope"
            )
            .await
    );
    world
        .env
        .wait_until(LONG, "the message to be parked", async || {
            world.env.queue_depth("warren.dead").await == 1
        })
        .await;
    let parked = world.env.get_messages("warren.dead", 1).await;
    assert_eq!(parked[0].payload, "not an envelope");
    let id = world.mail("after@example.com", json!({})).await;
    world.wait_for(&id, "COMPLETED").await;
    world.finish().await;
}

#[tokio::test]
async fn many_tasks_through_many_mailers_are_each_done_once() {
    let mut world = World::new("life_many").await;
    world.start_mailer();
    for n in 0..200 {
        world
            .accept(&json!({"kind": "demo.noop", "payload": {}, "priority": n % 10}))
            .await;
    }
    world
        .env
        .wait_until(LONG, "all tasks to be done", async || {
            world
                .env
                .sql::<i64>("select count(*) from tasks where status = 'COMPLETED' and attempt = 1")
                .await
                == 200
        })
        .await;
    world.wait_until_queues_are_empty().await;
    world.finish().await;
}

#[tokio::test]
async fn a_mail_that_waits_for_its_relay_beyond_its_use_is_never_sent() {
    let one = [("mail.relays.default.connections", "1")];
    let mut world = World::without_mailer("life_useful", &one).await;
    let slow = FaultRule::new("slow@example.com", Phase::Dot, Action::Delay { ms: 4000 });
    world.inbox.set_faults(vec![slow]).unwrap();
    world.start_mailer();
    let slow = world.mail("slow@example.com", json!({})).await;
    world.wait_for(&slow, "PROCESSING").await;
    let useful = chrono::Utc::now() + chrono::TimeDelta::seconds(2);
    let late = world
        .mail("late@example.com", json!({"useful_until": useful}))
        .await;
    world.wait_for(&late, "PROCESSING").await;
    let task = world.wait_for(&late, "EXPIRED").await;
    assert!(task["result"].is_null(), "{task}");
    world.wait_for(&slow, "COMPLETED").await;
    world.wait_until_queues_are_empty().await;
    assert_eq!(world.inbox.count(), 1);
    world.finish().await;
}
