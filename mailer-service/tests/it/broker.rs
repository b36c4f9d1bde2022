//! A broker that loses connections, messages or everything.

use crate::world::{LONG, World};
use serde_json::json;

#[tokio::test]
async fn closed_connections_are_made_again() {
    let world = World::new("broker_closed").await;
    let first = world.mail("first@example.com", json!({})).await;
    world.wait_for(&first, "COMPLETED").await;
    world.env.close_connections().await;
    let second = world.mail("second@example.com", json!({})).await;
    world.wait_for(&second, "COMPLETED").await;
    assert_eq!(world.inbox.count(), 2);
    world.finish().await;
}

#[tokio::test]
async fn purged_messages_are_published_again() {
    let quick = [("rescue.reconcile_s", "1"), ("rescue.lost_after_s", "1")];
    let mut world = World::without_mailer("broker_purged", &quick).await;
    let id = world.mail("ada@example.com", json!({})).await;
    let queue = "warren.tasks.mail.normal";
    world
        .env
        .wait_until(LONG, "the message to be published", async || {
            world.env.queue_depth(queue).await == 1
        })
        .await;
    world
        .env
        .wait_until(LONG, "the outbox to be empty", async || {
            world.env.sql::<i64>("select count(*) from outbox").await == 0
        })
        .await;
    world.env.purge(queue).await;
    world
        .env
        .wait_until(LONG, "the message to be published again", async || {
            world.env.queue_depth(queue).await == 1
        })
        .await;
    world.start_mailer();
    world.wait_for(&id, "COMPLETED").await;
    assert_eq!(world.inbox.count(), 1);
    world.finish().await;
}

#[tokio::test]
async fn however_many_messages_were_lost_all_are_published_again() {
    let quick = [("rescue.reconcile_s", "1"), ("rescue.lost_after_s", "1")];
    let world = World::without_mailer("broker_purged_many", &quick).await;
    world
        .env
        .execute(
            "insert into tasks (id, kind, queue, priority, status, payload, max_attempts, created_at, updated_at)
             select gen_random_uuid(), 'demo.noop', 'work', 5, 'PENDING', '{}', 8, now(), now()
             from generate_series(1, 6000)",
        )
        .await;
    world
        .env
        .wait_until(LONG, "all messages to be published", async || {
            world.env.queue_depth("warren.tasks.work.normal").await == 6000
        })
        .await;
    // In one look, or the rest would have waited for the next.
    let looks = "select count(distinct requeued_at) from tasks";
    assert!(world.env.sql::<i64>(looks).await <= 2);
    world.finish().await;
}

#[tokio::test]
async fn a_broker_without_our_data_gets_every_waiting_task_again() {
    let quick = [("rescue.reconcile_s", "1"), ("rescue.lost_after_s", "3600")];
    let mut world = World::without_mailer("broker_wiped", &quick).await;
    let id = world.mail("ada@example.com", json!({})).await;
    world
        .env
        .wait_until(LONG, "the outbox to be empty", async || {
            world.env.sql::<i64>("select count(*) from outbox").await == 0
        })
        .await;
    world
        .env
        .wait_until(LONG, "the epoch to be marked", async || {
            world
                .env
                .sql::<i64>("select coalesce(max(epoch), 0) from broker_epoch")
                .await
                == 1
        })
        .await;
    // An empty vhost of the same name is what a deleted data folder comes back as.
    world.env.recreate_vhost().await;
    world
        .env
        .wait_until(LONG, "the next epoch", async || {
            world.env.sql::<i64>("select epoch from broker_epoch").await == 2
        })
        .await;
    world.start_mailer();
    world.wait_for(&id, "COMPLETED").await;
    assert_eq!(world.inbox.count(), 1);
    world.finish().await;
}
