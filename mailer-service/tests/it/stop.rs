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
