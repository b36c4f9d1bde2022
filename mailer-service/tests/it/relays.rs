//! Several relays: by weight, and when some of them are away.

use crate::world::{LONG, World};
use serde_json::json;
use testkit::inbox::{Action, FaultRule, Inbox, InboxOptions, Phase};

/// A world whose usual relay has the weight 1, with a second one beside it.
async fn two(name: &str, second: &Inbox, weight: &str) -> World {
    let port = second.smtp_addr().port().to_string();
    let settings = [
        ("mail.relays.second.host", "127.0.0.1"),
        ("mail.relays.second.port", port.as_str()),
        ("mail.relays.second.tls", "none"),
        ("mail.relays.second.weight", weight),
    ];
    World::without_mailer(name, &settings).await
}

async fn send(world: &World, count: usize) -> Vec<serde_json::Value> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(world.mail(&format!("r{n}@example.com"), json!({})).await);
    }
    let mut tasks = Vec::new();
    for id in &ids {
        tasks.push(world.wait_for(id, "COMPLETED").await);
    }
    tasks
}

fn by(tasks: &[serde_json::Value], relay: &str) -> u64 {
    let is_by = |task: &&serde_json::Value| task["result"]["relay"] == relay;
    tasks.iter().filter(is_by).map(|_| 1).sum()
}

#[tokio::test]
async fn each_gets_its_share_and_takes_over_from_the_other() {
    let second = Inbox::start(InboxOptions::default()).unwrap();
    let mut world = two("relays_shares", &second, "1").await;
    world.start_mailer();
    let tasks = send(&world, 60).await;
    // Half of them, give or take; far from all or none.
    assert!(
        (10..=50).contains(&by(&tasks, "second")),
        "{}",
        by(&tasks, "second")
    );
    assert_eq!(second.count(), by(&tasks, "second"));
    assert_eq!(world.inbox.count() + second.count(), 60);
    second.stop().await;
    let tasks = send(&world, 30).await;
    assert_eq!(by(&tasks, "default"), 30);
    // Nobody had to wait for another attempt.
    assert!(tasks.iter().all(|task| task["attempt"] == 1), "{tasks:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_relay_in_reserve_gets_what_the_other_refuses_for_reasons_of_its_own() {
    let second = Inbox::start(InboxOptions::default()).unwrap();
    let mut world = two("relays_reserve", &second, "0").await;
    world.start_mailer();
    let tasks = send(&world, 10).await;
    assert_eq!(by(&tasks, "default"), 10);
    let closing = FaultRule::new("*", Phase::Mail, Action::reply(421, "closing"));
    world.inbox.set_faults(vec![closing]).unwrap();
    let tasks = send(&world, 10).await;
    assert_eq!((by(&tasks, "second"), second.count()), (10, 10));
    // What is about the mail is no reason to ask another one.
    let unknown = FaultRule::new("*", Phase::Rcpt, Action::reply(550, "5.1.1 unknown"));
    world.inbox.set_faults(vec![unknown]).unwrap();
    // The relay rests still, so it must be the only one.
    second.stop().await;
    let id = world.mail("nobody@example.com", json!({})).await;
    let task = world.wait_for(&id, "FAILED").await;
    assert_eq!(task["error"]["code"], "smtp_permanent", "{task}");
    world.finish().await;
}

#[tokio::test]
async fn without_any_relay_a_mail_waits_for_one() {
    let second = Inbox::start(InboxOptions::default()).unwrap();
    let mut world = two("relays_none", &second, "1").await;
    second.stop().await;
    let away = FaultRule::new("*", Phase::Connect, Action::Drop);
    world.inbox.set_faults(vec![away]).unwrap();
    world.start_mailer();
    let id = world.mail("ada@example.com", json!({})).await;
    world.wait_for(&id, "RETRYING").await;
    world.inbox.set_faults(Vec::new()).unwrap();
    world.wait_for(&id, "COMPLETED").await;
    world.inbox.wait_for_count(1, LONG).await.unwrap();
    world.finish().await;
}
