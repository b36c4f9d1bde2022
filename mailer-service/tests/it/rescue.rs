//! Tasks of workers that died, and workers that were only thought dead.

use crate::world::{LONG, World};
use serde_json::json;
use testkit::inbox::{Action, FaultRule, Phase};

const QUICK: &[(&str, &str)] = &[("rescue.heartbeat_s", "1"), ("rescue.lease_s", "3")];

/// Makes a task look as if a worker had claimed it and died.
async fn strand(world: &World, id: &str) {
    world
        .env
        .execute(&format!(
            "insert into workers (id, name, host, pid, version, queues, state)
             values (gen_random_uuid(), 'dead', 'dead', 1, '0', '{{mail}}', 'alive');
             update tasks set status = 'PROCESSING', attempt = 1, started_at = now(), worker_id = (select id from workers where name = 'dead' limit 1)
             where id = '{id}'"
        ))
        .await;
}

#[tokio::test]
async fn a_dead_workers_task_is_tried_again() {
    let mut world = World::without_mailer("rescue_retry", QUICK).await;
    let id = world.mail("ada@example.com", json!({})).await;
    strand(&world, &id).await;
    world.start_mailer();
    let task = world.wait_for(&id, "COMPLETED").await;
    assert_eq!(task["attempt"], 2);
    assert_eq!(
        world
            .env
            .sql::<String>("select outcome from task_attempts")
            .await,
        "worker_lost"
    );
    assert_eq!(
        world
            .env
            .sql::<String>("select state from workers where name = 'dead'")
            .await,
        "lost"
    );
    assert_eq!(world.inbox.count(), 1);
    world.finish().await;
}

#[tokio::test]
async fn the_tasks_policy_decides_what_a_lost_worker_means() {
    for (policy, status) in [("fail", "FAILED"), ("hold", "UNKNOWN")] {
        let world = World::without_mailer(&format!("rescue_{policy}"), QUICK).await;
        let id = world
            .mail("ada@example.com", json!({"on_worker_lost": policy}))
            .await;
        strand(&world, &id).await;
        let task = world.wait_for(&id, status).await;
        assert_eq!(task["error"]["code"], "worker_lost");
        world.finish().await;
    }
}

#[tokio::test]
async fn a_living_worker_keeps_its_long_tasks() {
    let mut world = World::without_mailer("rescue_living", QUICK).await;
    world.start_mailer();
    world
        .inbox
        .set_faults(vec![FaultRule::new(
            "slow@example.com",
            Phase::Dot,
            Action::Delay { ms: 8_000 },
        )])
        .unwrap();
    let id = world.mail("slow@example.com", json!({})).await;
    assert_eq!(world.wait_for(&id, "COMPLETED").await["attempt"], 1);
    assert_eq!(
        world
            .env
            .sql::<i64>("select count(*) from workers where state <> 'alive'")
            .await,
        0
    );
    world.finish().await;
}

#[tokio::test]
async fn an_outcome_that_comes_too_late_changes_nothing() {
    let mut world = World::without_mailer("rescue_fence", &[]).await;
    world.start_mailer();
    world
        .inbox
        .set_faults(vec![FaultRule::new(
            "slow@example.com",
            Phase::Dot,
            Action::Delay { ms: 1_500 },
        )])
        .unwrap();
    let id = world.mail("slow@example.com", json!({})).await;
    world.wait_for(&id, "PROCESSING").await;
    // Somebody else has taken the task over, as after a rescue.
    world
        .env
        .execute(&format!(
            "update tasks set attempt = 2, worker_id = gen_random_uuid() where id = '{id}'"
        ))
        .await;
    world
        .inbox
        .wait_for_recipient("slow@example.com", LONG)
        .await
        .unwrap();
    world.wait_until_queues_are_empty().await;
    let task = world.task(&id).await;
    assert_ne!(task["status"], "COMPLETED");
    world.finish().await;
}

#[tokio::test]
async fn a_worker_declared_dead_goes_on_under_a_new_id() {
    let mut world = World::without_mailer("rescue_again", QUICK).await;
    world.start_mailer();
    let first = world.mail("first@example.com", json!({})).await;
    world.wait_for(&first, "COMPLETED").await;
    world.env.execute("update workers set state = 'lost'").await;
    world
        .env
        .wait_until(LONG, "the worker to register again", async || {
            world
                .env
                .sql::<i64>("select count(*) from workers where state = 'alive'")
                .await
                == 1
        })
        .await;
    let second = world.mail("second@example.com", json!({})).await;
    world.wait_for(&second, "COMPLETED").await;
    world.finish().await;
}
