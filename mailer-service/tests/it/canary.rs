//! Failures that run again behind a canary.

use crate::world::{LONG, World};
use serde_json::{Value, json};

/// That many tasks that have failed once, oldest first; run again, they fail again.
async fn failures(world: &World, count: usize) -> Vec<String> {
    let body = json!({"kind": "demo.unreliable", "payload": {"probability": 1, "class": "final"}, "tags": ["a"]});
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(world.accept(&body).await);
    }
    wait_for_count(world, "status = 'FAILED'", count).await;
    ids
}

async fn count(world: &World, condition: &str) -> usize {
    let count = format!("select count(*) from tasks where {condition}");
    world.env.sql(&count).await
}

async fn wait_for_count(world: &World, condition: &str, wanted: usize) {
    world
        .env
        .wait_until(LONG, condition, async || {
            count(world, condition).await == wanted
        })
        .await;
}

/// From now on these succeed.
async fn mend(world: &World, ids: &[String]) {
    let ids = ids.join("','");
    let mend = format!("update tasks set payload = '{{\"probability\": 0}}' where id in ('{ids}')");
    world.env.execute(&mend).await;
}

/// Begins a replay of all failures; returns its path.
async fn begin(world: &World, canary: Value) -> (String, Value) {
    let body = json!({"filter": {"tags": ["a"]}, "canary": canary});
    let (status, replay) = world.post("/tasks/retry", &body).await;
    assert_eq!(status, 202, "{replay}");
    assert_eq!(replay["state"], "RUNNING");
    let id = replay["id"].as_str().unwrap();
    (format!("/replays/{id}"), replay)
}

async fn wait_for_state(world: &World, path: &str, state: &str) -> Value {
    world
        .env
        .wait_until(LONG, &format!("the replay to be {state}"), async || {
            world.get(path).await["state"] == state
        })
        .await;
    world.get(path).await
}

fn counts(replay: &Value) -> [i64; 4] {
    ["replayed", "succeeded", "failed", "waiting"].map(|name| replay[name].as_i64().unwrap())
}

/// What the audit log says the replay's end was, and by whom.
async fn last_deed(world: &World) -> String {
    let deed = "select actor || ' ' || action from audit_log where action like 'replay.%' order by at desc limit 1";
    world.env.sql(deed).await
}

#[tokio::test]
async fn a_good_canary_is_followed_by_the_rest_at_the_rate() {
    let world = World::new("canary_good").await;
    let ids = failures(&world, 35).await;
    mend(&world, &ids).await;
    let canary = json!({"first": 5, "min_success": 0.9, "rate_per_s": 10});
    let dry = json!({"filter": {"tags": ["a"]}, "canary": canary, "dry_run": true});
    let (status, answer) = world.post("/tasks/retry", &dry).await;
    assert_eq!((status.as_u16(), &answer["matched"]), (200, &json!(35)));
    assert!(
        world.get("/replays").await["items"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let (path, replay) = begin(&world, canary).await;
    assert_eq!(
        (&replay["matched"], &replay["matched_all"]),
        (&json!(35), &json!(true))
    );
    assert_eq!(replay["canary"]["max_waiting"], 100);
    let replay = wait_for_state(&world, &path, "COMPLETED").await;
    assert_eq!(counts(&replay), [35, 35, 0, 0], "{replay}");
    assert_eq!(
        (&replay["share"], &replay["failures"]),
        (&json!(1.0), &json!([]))
    );
    assert!(replay["finished_at"].is_string());
    assert_eq!(
        count(&world, "status = 'COMPLETED' and attempt = 2").await,
        35
    );
    // The newest five went ahead, and had ended before any other began.
    let first = ids[30..].join("','");
    let waited = format!(
        "select (select max(settled_at) from replay_tasks where task_id in ('{first}'))
            <= (select min(replayed_at) from replay_tasks where task_id not in ('{first}'))"
    );
    assert!(world.env.sql::<bool>(&waited).await);
    // Thirty at ten in a second.
    let took = format!(
        "select extract(epoch from max(replayed_at) - min(replayed_at))::float8 from replay_tasks where task_id not in ('{first}')"
    );
    let took: f64 = world.env.sql(&took).await;
    assert!((2.0..10.0).contains(&took), "{took}");
    let at_once =
        "select max(n) from (select count(*) as n from replay_tasks group by replayed_at) as steps";
    assert!(world.env.sql::<i64>(at_once).await <= 11);
    let (status, problem) = world.post(&format!("{path}/stop"), &json!({})).await;
    assert_eq!(
        (status.as_u16(), &problem["type"]),
        (409, &json!("/problems/replay-state"))
    );
    assert_eq!(last_deed(&world).await, "test replay.start");
    world.finish().await;
}

#[tokio::test]
async fn a_bad_canary_stops_before_the_rest() {
    let world = World::new("canary_bad").await;
    let ids = failures(&world, 12).await;
    // One of four is not enough.
    mend(&world, &ids[11..]).await;
    let canary = json!({"first": 4, "min_success": 0.5, "rate_per_s": 100});
    let (path, _) = begin(&world, canary).await;
    let replay = wait_for_state(&world, &path, "STOPPED").await;
    assert_eq!(counts(&replay), [4, 1, 3, 0], "{replay}");
    let reason = replay["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("of the canary, 1 of 4 tasks succeeded"),
        "{reason}"
    );
    let mut failed: Vec<_> = replay["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap())
        .collect();
    failed.sort_unstable();
    assert_eq!(failed, ids[8..11]);
    assert_eq!(count(&world, "status = 'FAILED' and attempt = 1").await, 8);
    assert_eq!(count(&world, "attempt = 2").await, 4);
    assert_eq!(last_deed(&world).await, "warren replay.stopped");
    world.wait_until_queues_are_empty().await;
    world.finish().await;
}

#[tokio::test]
async fn it_stops_by_itself_when_the_share_falls_later() {
    let world = World::new("canary_later").await;
    let ids = failures(&world, 60).await;
    mend(&world, &ids[40..]).await;
    // Of all outcomes enough would succeed for long; of the latest ten they don't.
    let canary =
        json!({"first": 5, "min_success": 0.8, "rate_per_s": 20, "window": 10, "max_waiting": 4});
    let (path, _) = begin(&world, canary).await;
    let replay = wait_for_state(&world, &path, "STOPPED").await;
    let share = replay["share"].as_f64().unwrap();
    assert!(share < 0.8, "{replay}");
    world
        .env
        .wait_until(LONG, "what was under way to end", async || {
            world.get(&path).await["waiting"] == 0
        })
        .await;
    let [replayed, succeeded, failed, _] = counts(&world.get(&path).await);
    assert_eq!((succeeded, replayed), (20, 20 + failed));
    // Three failures in ten are too many, and four more may have been under way.
    assert!((3..=7).contains(&failed), "{failed}");
    let untouched = count(&world, "status = 'FAILED' and attempt = 1").await;
    assert_eq!(i64::try_from(untouched).unwrap(), 60 - replayed);
    world.finish().await;
}

#[tokio::test]
async fn a_task_that_is_retried_for_too_long_has_failed() {
    let world = World::new("canary_timeout").await;
    failures(&world, 3).await;
    // Now they fail in a way that is tried again.
    world
        .env
        .execute("update tasks set payload = '{\"probability\": 1}'")
        .await;
    let canary = json!({"first": 1, "min_success": 1, "rate_per_s": 1, "timeout_s": 2});
    let (path, _) = begin(&world, canary).await;
    let replay = wait_for_state(&world, &path, "STOPPED").await;
    assert_eq!(counts(&replay), [1, 0, 1, 0], "{replay}");
    assert_eq!(count(&world, "finished_at is null").await, 1);
    let took = "select settled_at - replayed_at > interval '2 seconds' from replay_tasks";
    assert!(world.env.sql::<bool>(took).await);
    let cancelled = world
        .post("/tasks/cancel", &json!({"filter": {"tags": ["a"]}}))
        .await;
    assert_eq!(cancelled.1["changed"], 1);
    wait_for_count(&world, "finished_at is null", 0).await;
    world.finish().await;
}

#[tokio::test]
async fn an_operator_stops_it() {
    let world = World::new("canary_stop").await;
    let ids = failures(&world, 30).await;
    mend(&world, &ids).await;
    let canary = json!({"first": 2, "min_success": 0.5, "rate_per_s": 4});
    let (path, _) = begin(&world, canary.clone()).await;
    // The same once more is refused while it goes on.
    let again = json!({"filter": {"tags": ["a"]}, "canary": canary});
    let (status, problem) = world.post("/tasks/retry", &again).await;
    assert_eq!(
        (status.as_u16(), &problem["type"]),
        (409, &json!("/problems/replay-state"))
    );
    world
        .env
        .wait_until(LONG, "the rest to begin", async || {
            world.get(&path).await["replayed"].as_i64() > Some(2)
        })
        .await;
    let (status, stopped) = world.post(&format!("{path}/stop"), &json!({})).await;
    assert_eq!(
        (status.as_u16(), &stopped["state"]),
        (200, &json!("CANCELLED"))
    );
    assert_eq!(stopped["reason"], "stopped by the API key test");
    assert_eq!(world.post(&format!("{path}/stop"), &json!({})).await.0, 200);
    // What was under way is still counted.
    world
        .env
        .wait_until(LONG, "what was under way to end", async || {
            world.get(&path).await["waiting"] == 0
        })
        .await;
    let replay = world.get(&path).await;
    assert_eq!(replay["replayed"], stopped["replayed"]);
    let replayed = usize::try_from(replay["replayed"].as_i64().unwrap()).unwrap();
    assert_eq!(replay["succeeded"], replay["replayed"]);
    assert_eq!(
        count(&world, "status = 'COMPLETED' and attempt = 2").await,
        replayed
    );
    assert_eq!(
        count(&world, "status = 'FAILED' and attempt = 1").await,
        30 - replayed
    );
    let audit = "select count(*) from audit_log where action = 'replay.stop' and actor = 'test'";
    assert_eq!(world.env.sql::<i64>(audit).await, 1);
    // It has ended, so another may begin.
    begin(
        &world,
        json!({"first": 30, "min_success": 1, "rate_per_s": 4}),
    )
    .await;
    wait_for_count(&world, "status = 'COMPLETED' and attempt = 2", 30).await;
    world.finish().await;
}

#[tokio::test]
async fn replicas_share_it_and_it_outlives_them() {
    let mut world = World::new("canary_replicas").await;
    let ids = failures(&world, 60).await;
    mend(&world, &ids).await;
    let replica = world.start_api_replica();
    let (path, _) = begin(
        &world,
        json!({"first": 10, "min_success": 0.9, "rate_per_s": 15}),
    )
    .await;
    world
        .env
        .wait_until(LONG, "the rest to begin", async || {
            world.get(&path).await["replayed"].as_i64() > Some(12)
        })
        .await;
    // Nobody is left to go on with it.
    replica.1.cancel();
    replica.0.wait().await.unwrap();
    world.restart_api().await;
    let replay = world.get(&path).await;
    assert!(replay["replayed"].as_i64() < Some(60), "{replay}");
    let second = world.start_api_replica();
    let replay = wait_for_state(&world, &path, "COMPLETED").await;
    assert_eq!(counts(&replay), [60, 60, 0, 0], "{replay}");
    assert_eq!(
        count(&world, "status = 'COMPLETED' and attempt = 2").await,
        60
    );
    // Each by one deed.
    let deeds = "select count(*) from audit_log where action = 'task.retry'";
    assert_eq!(world.env.sql::<i64>(deeds).await, 60);
    second.1.cancel();
    second.0.wait().await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn it_is_for_what_had_failed_when_it_began() {
    let world = World::new("canary_frozen").await;
    let ids = failures(&world, 10).await;
    mend(&world, &ids[9..]).await;
    // Nearly all fail again, and that is enough here.
    let canary = json!({"first": 1, "min_success": 0.05, "rate_per_s": 3});
    let (path, _) = begin(&world, canary).await;
    let late = json!({"kind": "demo.unreliable", "payload": {"probability": 1, "class": "final"}, "tags": ["a"]});
    let late = world.accept(&late).await;
    world.wait_for(&late, "FAILED").await;
    let replay = wait_for_state(&world, &path, "COMPLETED").await;
    assert_eq!(counts(&replay), [10, 1, 9, 0], "{replay}");
    assert_eq!(world.task(&late).await["attempt"], 1);
    assert_eq!(count(&world, "attempt = 2").await, 10);
    world.finish().await;
}
