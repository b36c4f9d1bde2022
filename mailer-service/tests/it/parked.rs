//! Tasks of a kind that no worker knows.

use crate::world::{LONG, World};
use serde_json::json;

/// As an API of a later version would have accepted it, with a single attempt and its message in the outbox.
async fn accept_unknown(world: &World) -> String {
    let id = uuid();
    world
        .env
        .execute(&format!(
            "insert into tasks (id, kind, queue, priority, status, payload, max_attempts, created_at, updated_at)
             values ('{id}', 'report.render', 'work', 5, 'PENDING', '{{}}', 1, now(), now());
             insert into outbox (id, task_id, attempt, kind, lane, exchange, routing_key, publish_after)
             values (gen_random_uuid(), '{id}', 1, 'report.render', 'normal', 'warren.tasks', 'work.normal', now())"
        ))
        .await;
    id
}

fn uuid() -> String {
    shared::task::TaskId::now().to_string()
}

#[tokio::test]
async fn an_unknown_kind_is_put_aside_without_using_up_attempts() {
    let mut world = World::without_mailer("parked", &[("worker.park_s", "1")]).await;
    world.start_mailer();
    let id = accept_unknown(&world).await;
    world
        .env
        .wait_until(LONG, "the third attempt", async || {
            let task = world.task(&id).await;
            task["attempt"].as_i64() >= Some(3) && task["status"] == "RETRYING"
        })
        .await;
    let task = world.task(&id).await;
    assert_eq!(task["error"]["code"], "unknown_kind");
    assert!(
        task["error"]["message"]
            .as_str()
            .unwrap()
            .contains("report.render")
    );
    // One is left, as at first.
    let count = |name: &str| task[name].as_i64().unwrap();
    assert_eq!(count("max_attempts") - count("attempt"), 1);
    assert!(task["next_attempt_at"].is_string());
    let dead = world.env.queue_depth("warren.dead").await;
    let rows: i64 = world.env.sql("select count(*) from task_attempts").await;
    assert_eq!((dead, rows), (0, 0));
    let counted = "warren_tasks_parked_total{kind=\"report.render\"}";
    assert!(world.metrics().await.contains(counted));
    let (status, _) = world.post(&format!("/tasks/{id}/cancel"), &json!({})).await;
    assert!(status.is_success(), "{status}");
    world.wait_for(&id, "CANCELLED").await;
    world.wait_until_queues_are_empty().await;
    world.finish().await;
}

#[tokio::test]
async fn a_worker_that_knows_the_kind_runs_it_when_it_comes() {
    let mut world = World::without_mailer("parked_woken", &[("worker.park_s", "3000")]).await;
    world.start_mailer();
    let id = accept_unknown(&world).await;
    world.wait_for(&id, "RETRYING").await;
    // This kind the next worker knows.
    world
        .env
        .execute("update tasks set kind = 'demo.noop'")
        .await;
    world.start_mailer();
    let task = world.wait_for(&id, "COMPLETED").await;
    assert_eq!(task["attempt"], 2);
    assert_eq!(task["error"], json!(null));
    world.finish().await;
}
