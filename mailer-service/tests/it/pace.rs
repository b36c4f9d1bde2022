//! How fast mails go: to a relay with a rate, and to domains that ask for less.

use crate::world::{LONG, World};
use serde_json::json;

#[tokio::test]
async fn a_relays_rate_holds_for_all_workers_together() {
    let settings = [("mail.relays.default.rate_per_s", "20")];
    let mut world = World::without_mailer("pace_relay", &settings).await;
    let mut ids = Vec::new();
    for n in 0..70 {
        ids.push(world.mail(&format!("r{n}@example.com"), json!({})).await);
    }
    world.start_mailer();
    world.start_mailer();
    world.inbox.wait_for_count(70, LONG).await.unwrap();
    for id in &ids {
        world.wait_for(id, "COMPLETED").await;
    }
    let mut times: Vec<_> = world
        .inbox
        .messages()
        .iter()
        .map(|mail| mail.received_at)
        .collect();
    times.sort_unstable();
    // Those of a second at once, and then twenty a second, whoever sends them.
    let seconds = (times[69] - times[0]).as_seconds_f64();
    assert!(seconds > (70.0 - 20.0) / 20.0 - 0.2, "{seconds} s");
    let used_up = "select count(*) from tasks where attempt - forgiven <> 1";
    assert_eq!(world.env.sql::<i64>(used_up).await, 0);
    world.finish().await;
}

#[tokio::test]
async fn a_domain_that_asks_for_less_gets_less_for_a_while() {
    let settings = [
        ("mail.throttle.first_per_s", "5"),
        ("mail.throttle.highest_per_s", "8"),
        ("mail.throttle.recover_s", "3600"),
    ];
    let mut world = World::started("pace_domain", &settings).await;
    world.start_mailer();
    let gate = "select count(*) from mail_gates where name = 'domain:slow.example'";
    let complaint = world.mail("a+421x1@slow.example", json!({})).await;
    world.wait_for(&complaint, "COMPLETED").await;
    assert_eq!(world.env.sql::<i64>(gate).await, 1);
    let mut ids = Vec::new();
    for n in 0..60 {
        ids.push(world.mail(&format!("r{n}@slow.example"), json!({})).await);
    }
    // Other domains notice nothing.
    world.mail("b@fast.example", json!({})).await;
    world
        .inbox
        .wait_for_recipient("b@fast.example", LONG)
        .await
        .unwrap();
    let waiting = "select count(*) from tasks where error_code = 'smtp_domain_slowed' and status = 'RETRYING'";
    world
        .env
        .wait_until(LONG, "mails that are put off", async || {
            world.env.sql::<i64>(waiting).await > 0
        })
        .await;
    let failed = "select count(*) from task_attempts where error_code = 'smtp_domain_slowed'";
    assert_eq!(world.env.sql::<i64>(failed).await, 0);

    // An hour later it is forgotten.
    world
        .env
        .execute("update mail_gates set changed_at = changed_at - interval '2 hours'")
        .await;
    world
        .env
        .wait_until(LONG, "the gate to go", async || {
            world.env.sql::<i64>(gate).await == 0
        })
        .await;
    world
        .env
        .execute("update tasks set due_at = now() where due_at is not null")
        .await;
    for id in &ids {
        world.wait_for(id, "COMPLETED").await;
    }
    assert_eq!(world.inbox.count(), 62);
    world.finish().await;
}

#[tokio::test]
async fn connections_are_shared_out() {
    let settings = [
        ("mail.relays.default.connections", "6"),
        ("mail.relays.default.connections_total", "4"),
    ];
    let mut world = World::started("pace_connections", &settings).await;
    world.start_mailer();
    let most_of = async |mails: usize| {
        let before = world.inbox.count();
        let batch: Vec<_> = (0..mails)
            .map(|n| json!({"to": format!("r{n}@example.com"), "subject": "x", "text": "y"}))
            .collect();
        world.post("/emails/batch", &json!({"emails": batch})).await;
        let mut most = 0;
        while world.inbox.count() < before + mails as u64 {
            most = most.max(world.inbox.connections());
            tokio::task::yield_now().await;
        }
        most
    };
    // Each knows of the other within a second, and of the other's end likewise.
    let wait = async |what: &str, wanted: std::ops::RangeInclusive<usize>| {
        world
            .env
            .wait_until(LONG, what, async || wanted.contains(&most_of(300).await))
            .await;
    };
    wait("four connections of two workers", 3..=4).await;
    for _ in 0..5 {
        assert!(most_of(300).await <= 4);
    }
    world.finish().await;
}
