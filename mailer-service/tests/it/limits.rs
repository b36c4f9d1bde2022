//! Shared limits, pauses and drains, as callers and operators see them.

use crate::world::{LONG, World};
use mailer_service::service::Ended;
use serde_json::{Value, json};

async fn sleeps(world: &World, count: usize, seconds: f64, fields: &Value) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let mut body = json!({"kind": "demo.sleep", "payload": {"seconds": seconds}});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().cloned().unwrap());
        ids.push(world.accept(&body).await);
    }
    ids
}

async fn all(world: &World, ids: &[String]) -> Vec<Value> {
    let mut tasks = Vec::new();
    for id in ids {
        tasks.push(world.task(id).await);
    }
    tasks
}

fn count(tasks: &[Value], status: &str) -> usize {
    tasks.iter().filter(|task| task["status"] == status).count()
}

async fn reasons(world: &World, id: &str) -> Vec<String> {
    let why = world.get(&format!("/tasks/{id}/why")).await;
    let reasons = why["reasons"].as_array().unwrap();
    reasons
        .iter()
        .map(|reason| reason["code"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_workers_together_keep_to_a_limit() {
    let mut world = World::without_mailer("limit_slots", &[]).await;
    let limit = json!({"concurrency": 2});
    let (status, _) = world.put("/limits/key/tenant:*", &limit).await;
    assert_eq!(status, 201);
    let ids = sleeps(&world, 8, 1.0, &json!({"limit_key": "tenant:one"})).await;
    let free = sleeps(&world, 1, 0.0, &json!({})).await;
    world.start_mailer();
    world.start_mailer();
    world.wait_for(&free[0], "COMPLETED").await;
    let mut told = false;
    world
        .env
        .wait_until(LONG, "all to be done", async || {
            let tasks = all(&world, &ids).await;
            assert!(count(&tasks, "PROCESSING") <= 2, "{tasks:?}");
            if let Some(waiting) = tasks.iter().find(|task| task["status"] == "PENDING") {
                told |= reasons(&world, waiting["id"].as_str().unwrap()).await == ["limit"];
            }
            count(&tasks, "COMPLETED") == ids.len()
        })
        .await;
    assert!(told, "nobody said that the limit was in the way");
    for task in all(&world, &ids).await {
        assert_eq!(task["attempt"], 1);
        assert_eq!(task["limit_key"], "tenant:one");
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_spreads_starts_and_its_end_frees_them() {
    let mut world = World::without_mailer("limit_rate", &[]).await;
    let limit = json!({"rate": 4.0, "burst": 1});
    world.put("/limits/kind/demo.sleep", &limit).await;
    let ids = sleeps(&world, 5, 0.0, &json!({})).await;
    world.start_mailer();
    let mut begun = Vec::new();
    for id in &ids {
        let task = world.wait_for(id, "COMPLETED").await;
        let at = task["started_at"].as_str().unwrap();
        begun.push(chrono::DateTime::parse_from_rfc3339(at).unwrap());
    }
    begun.sort();
    let span = *begun.last().unwrap() - begun[0];
    // Four pauses of a quarter of a second.
    assert!(span.num_milliseconds() >= 950, "{span}");
    // One an hour: only its end lets the others through.
    world
        .put(
            "/limits/kind/demo.sleep",
            &json!({"rate": 0.0003, "burst": 1}),
        )
        .await;
    world
        .env
        .wait_until(LONG, "the new limit to hold somebody up", async || {
            let id = &sleeps(&world, 1, 0.0, &json!({})).await[0];
            world
                .env
                .wait_until(LONG, "the task to end or to wait", async || {
                    world.task(id).await["status"] == "COMPLETED"
                        || reasons(&world, id).await == ["limit"]
                })
                .await;
            world.task(id).await["status"] == "PENDING"
        })
        .await;
    let held = sleeps(&world, 3, 0.0, &json!({})).await;
    assert_eq!(world.delete("/limits/kind/demo.sleep").await, 204);
    for id in &held {
        world.wait_for(id, "COMPLETED").await;
    }
    assert_eq!(world.get("/limits").await, json!({"limits": []}));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_paused_queue_is_begun() {
    let world = World::new("pause_queue").await;
    let reason = json!({"reason": "moving house"});
    let (status, pause) = world.post("/queues/work/pause", &reason).await;
    assert_eq!(
        (status.as_u16(), &pause["reason"]),
        (200, &reason["reason"])
    );
    world
        .env
        .wait_until(LONG, "nobody to consume", async || {
            let queues = world.get("/queues").await;
            let work = queues["queues"]
                .as_array()
                .unwrap()
                .iter()
                .find(|queue| queue["name"] == "work")
                .unwrap()
                .clone();
            let lanes = work["lanes"].as_array().unwrap();
            lanes.iter().all(|lane| lane["consumers"] == 0)
        })
        .await;
    let ids = sleeps(&world, 3, 0.0, &json!({})).await;
    world.mail("ada@example.com", json!({})).await;
    world
        .env
        .wait_until(LONG, "the mail to arrive", async || {
            world.inbox.count() == 1
        })
        .await;
    let tasks = all(&world, &ids).await;
    assert_eq!(count(&tasks, "PENDING"), 3);
    assert_eq!(reasons(&world, &ids[0]).await, ["queue_paused"]);
    let (status, _) = world.post("/queues/work/resume", &json!({})).await;
    assert_eq!(status, 204);
    for id in &ids {
        assert_eq!(world.wait_for(id, "COMPLETED").await["attempt"], 1);
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_kind_steps_aside() {
    let mut world = World::without_mailer("pause_kind", &[]).await;
    world.post("/kinds/demo.sleep/pause", &json!({})).await;
    let ids = sleeps(&world, 3, 0.0, &json!({})).await;
    world.start_mailer();
    let other = world
        .accept(&json!({"kind": "demo.noop", "payload": {}}))
        .await;
    world.wait_for(&other, "COMPLETED").await;
    world.wait_until_queues_are_empty().await;
    for task in all(&world, &ids).await {
        assert_eq!(
            (&task["status"], &task["attempt"]),
            (&json!("PENDING"), &json!(0))
        );
        let id = task["id"].as_str().unwrap();
        assert_eq!(reasons(&world, id).await, ["kind_paused"]);
    }
    // What is cancelled leaves the line.
    world
        .post(&format!("/tasks/{}/cancel", ids[0]), &json!({}))
        .await;
    world.post("/kinds/demo.sleep/resume", &json!({})).await;
    for id in &ids[1..] {
        assert_eq!(world.wait_for(id, "COMPLETED").await["attempt"], 1);
    }
    assert_eq!(world.task(&ids[0]).await["status"], "CANCELLED");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_worker_finishes_and_takes_nothing_new() {
    let world = World::new("drain").await;
    let running = sleeps(&world, 1, 2.0, &json!({})).await;
    world.wait_for(&running[0], "PROCESSING").await;
    let workers = world.get("/workers").await;
    let id = workers["workers"][0]["id"].as_str().unwrap().to_owned();
    let (status, worker) = world
        .post(&format!("/workers/{id}/drain"), &json!({}))
        .await;
    assert_eq!((status.as_u16(), &worker["then"]), (202, &json!("stay")));
    world
        .env
        .wait_until(LONG, "its consumers to go", async || {
            let queues = world.get("/queues").await;
            let all = queues["queues"].as_array().unwrap().clone();
            all.iter()
                .flat_map(|queue| queue["lanes"].as_array().unwrap().clone())
                .all(|lane| lane["consumers"] == 0)
        })
        .await;
    let waiting = sleeps(&world, 1, 0.0, &json!({})).await;
    assert_eq!(world.wait_for(&running[0], "COMPLETED").await["attempt"], 1);
    assert_eq!(world.task(&waiting[0]).await["status"], "PENDING");
    assert_eq!(reasons(&world, &waiting[0]).await, ["no_worker"]);
    let (status, _) = world
        .post(&format!("/workers/{id}/resume"), &json!({}))
        .await;
    assert_eq!(status, 200);
    world.wait_for(&waiting[0], "COMPLETED").await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_worker_that_is_to_exit_ends_after_its_tasks() {
    let mut world = World::new("drain_exit").await;
    let running = sleeps(&world, 1, 1.0, &json!({})).await;
    world.wait_for(&running[0], "PROCESSING").await;
    let workers = world.get("/workers").await;
    let id = workers["workers"][0]["id"].as_str().unwrap().to_owned();
    let asked = json!({"then": "exit"});
    world.post(&format!("/workers/{id}/drain"), &asked).await;
    assert_eq!(world.mailer_ends().await, Ended::Stopped);
    let done = world.task(&running[0]).await;
    assert_eq!(
        (&done["status"], &done["attempt"]),
        (&json!("COMPLETED"), &json!(1))
    );
    let worker = world.get(&format!("/workers/{id}")).await;
    assert_eq!(worker["state"], "stopped");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_has_done_enough_makes_way_for_a_fresh_one() {
    let settings = [("worker.max_tasks", "3")];
    let mut world = World::without_mailer("enough", &settings).await;
    world.start_mailer();
    let ids = sleeps(&world, 4, 0.0, &json!({})).await;
    assert_eq!(world.mailer_ends().await, Ended::Restart);
    // The process would take its own place; here another one does.
    world.start_mailer();
    for id in &ids {
        assert_eq!(world.wait_for(id, "COMPLETED").await["attempt"], 1);
    }
    world.finish().await;
}
