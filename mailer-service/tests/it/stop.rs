//! An orderly stop loses nothing and repeats nothing.

use crate::world::{LONG, World};
use serde_json::json;
use testkit::inbox::{Action, FaultRule, Phase};

#[tokio::test]
async fn running_mails_finish_and_waiting_ones_go_to_the_next_worker() {
    let mut world = World::without_mailer("stop_order", &[("worker.queues.mail.slots", "4")]).await;
    world
        .inbox
        .set_faults(vec![FaultRule::new(
            "*",
            Phase::Dot,
            Action::Delay { ms: 200 },
        )])
        .unwrap();
    for n in 0..40 {
        world.mail(&format!("r{n}@example.com"), json!({})).await;
    }
    world.start_mailer();
    world.inbox.wait_for_count(8, LONG).await.unwrap();
    world.stop_mailer().await;
    assert_eq!(
        world
            .env
            .sql::<i64>("select count(*) from tasks where status = 'PROCESSING'")
            .await,
        0
    );
    assert_eq!(
        world.env.sql::<String>("select state from workers").await,
        "stopped"
    );
    world.inbox.set_faults(Vec::new()).unwrap();
    world.start_mailer();
    world
        .env
        .wait_until(LONG, "all mails to be sent", async || {
            world
                .env
                .sql::<i64>("select count(*) from tasks where status = 'COMPLETED'")
                .await
                == 40
        })
        .await;
    assert_eq!(world.inbox.count(), 40);
    world.finish().await;
}

#[tokio::test]
async fn a_task_that_outlasts_the_grace_is_given_back() {
    let mut world =
        World::without_mailer("stop_release", &[("service.shutdown_grace_s", "1")]).await;
    world
        .inbox
        .set_faults(vec![FaultRule {
            times: Some(1),
            ..FaultRule::new("*", Phase::Mail, Action::Hang)
        }])
        .unwrap();
    let id = world
        .mail("ada@example.com", json!({"max_attempts": 1}))
        .await;
    world.start_mailer();
    world.wait_for(&id, "PROCESSING").await;
    world.stop_mailer().await;
    let task = world.wait_for(&id, "PENDING").await;
    assert_eq!(task["attempt"], 1);
    world.start_mailer();
    // Being given back used up no attempt.
    assert_eq!(world.wait_for(&id, "COMPLETED").await["attempt"], 2);
    world.finish().await;
}

#[tokio::test]
async fn a_held_mail_that_was_not_sent_yet_is_given_back() {
    let mut world = World::without_mailer("stop_held", &[("service.shutdown_grace_s", "1")]).await;
    world
        .inbox
        .set_faults(vec![FaultRule {
            times: Some(1),
            ..FaultRule::new("*", Phase::Data, Action::Hang)
        }])
        .unwrap();
    let held = json!({"on_worker_lost": "hold", "max_attempts": 1});
    let id = world.mail("ada@example.com", held).await;
    world.start_mailer();
    world.wait_for(&id, "PROCESSING").await;
    world.stop_mailer().await;
    let task = world.wait_for(&id, "PENDING").await;
    assert_eq!(task["error"], serde_json::Value::Null, "{task}");
    world.start_mailer();
    assert_eq!(world.wait_for(&id, "COMPLETED").await["attempt"], 2);
    assert_eq!(world.inbox.count(), 1);
    world.finish().await;
}

/// The relay has the mail and takes longer to say so than the worker may take to stop.
#[tokio::test]
async fn a_mail_that_may_have_been_sent_goes_by_its_policy() {
    let mut world =
        World::without_mailer("stop_dropped", &[("service.shutdown_grace_s", "1")]).await;
    world
        .inbox
        .set_faults(vec![FaultRule::new(
            "*",
            Phase::Dot,
            Action::Delay { ms: 600_000 },
        )])
        .unwrap();
    let mut ids = Vec::new();
    for policy in ["hold", "fail", "retry"] {
        let to = format!("{policy}@example.com");
        ids.push(world.mail(&to, json!({"on_worker_lost": policy})).await);
    }
    world.start_mailer();
    world.inbox.wait_for_count(3, LONG).await.unwrap();
    world.stop_mailer().await;
    for (id, status) in ids.iter().zip(["UNKNOWN", "FAILED", "PENDING"]) {
        let task = world.task(id).await;
        assert_eq!(task["status"], status, "{task}");
        assert_eq!(task["error"]["code"], "interrupted", "{task}");
    }
    world.inbox.set_faults(Vec::new()).unwrap();
    world.start_mailer();
    assert_eq!(world.wait_for(&ids[2], "COMPLETED").await["attempt"], 2);
    let to = |policy: &str| {
        let address = format!("{policy}@example.com");
        let messages = world.inbox.messages();
        messages
            .iter()
            .filter(|mail| mail.envelope_to == [address.clone()])
            .count()
    };
    assert_eq!((to("hold"), to("fail"), to("retry")), (1, 1, 2));
    world.finish().await;
}
