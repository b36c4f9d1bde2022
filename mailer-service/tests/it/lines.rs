//! The lines of limits: who waits in them, in which order they move, and what must not hold them up.

use crate::world::{LONG, World};
use diesel::{Connection, PgConnection};
use mailer_service::{gate, queries::claim::Claim};
use serde_json::{Value, json};
use shared::limits::{Allowance, Policy, Rule, Scope};
use uuid::Uuid;

/// So many sleeping tasks that ask for the same limit.
async fn sleeps(world: &World, count: usize, seconds: f64, key: &str, priority: u8) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let payload = json!({"seconds": seconds});
        let tag = if priority > 6 { "high" } else { "other" };
        let task = json!({"kind": "demo.sleep", "payload": payload, "limit_key": key, "priority": priority, "tags": [tag]});
        ids.push(world.accept(&task).await);
    }
    ids
}

async fn wait_for_waiting(world: &World, count: i64) {
    let waiting = "select count(*) from limit_waits where woken_at is null";
    world
        .env
        .wait_until(
            LONG,
            &format!("{count} tasks to wait in line"),
            async || world.env.sql::<i64>(waiting).await == count,
        )
        .await;
}

#[tokio::test]
async fn a_crowd_that_was_cancelled_holds_nobody_up() {
    let mut world = World::without_mailer("lines_crowd", &[]).await;
    world
        .put("/limits/key/tenant", &json!({"concurrency": 1}))
        .await;
    world.start_mailer();
    let first = sleeps(&world, 1, 3.0, "tenant", 5).await;
    world.wait_for(&first[0], "PROCESSING").await;
    sleeps(&world, 600, 0.0, "tenant", 9).await;
    let last = sleeps(&world, 1, 0.0, "tenant", 0).await;
    wait_for_waiting(&world, 601).await;
    let crowd = json!({"filter": {"tags": ["high"]}});
    let (_, answer) = world.post("/tasks/cancel", &crowd).await;
    assert_eq!(answer["changed"], 600, "{answer}");
    assert_eq!(world.wait_for(&last[0], "COMPLETED").await["attempt"], 1);
    wait_for_waiting(&world, 0).await;
    world.finish().await;
}

#[tokio::test]
async fn a_line_moves_by_priority_and_then_by_age() {
    let mut world = World::without_mailer("lines_order", &[]).await;
    world
        .put("/limits/key/tenant", &json!({"concurrency": 1}))
        .await;
    world.start_mailer();
    let first = sleeps(&world, 1, 2.0, "tenant", 5).await;
    world.wait_for(&first[0], "PROCESSING").await;
    let mut wanted = Vec::new();
    for priority in [1, 4, 4, 8, 2, 5] {
        let id = sleeps(&world, 1, 0.0, "tenant", priority).await.remove(0);
        wanted.push((9 - priority, id));
    }
    wait_for_waiting(&world, 6).await;
    wanted.sort();
    for (_, id) in &wanted {
        world.wait_for(id, "COMPLETED").await;
    }
    let began = world
        .env
        .rows("select id from tasks order by started_at offset 1")
        .await;
    let began: Vec<&str> = began
        .iter()
        .map(|row| row["id"].as_str().unwrap())
        .collect();
    let wanted: Vec<&str> = wanted.iter().map(|(_, id)| id.as_str()).collect();
    assert_eq!(began, wanted);
    world.finish().await;
}

/// A look every quarter of a second would let four a second through.
#[tokio::test]
async fn a_line_moves_at_its_rate() {
    let mut world = World::without_mailer("lines_rate", &[]).await;
    world
        .put("/limits/key/tenant", &json!({"rate": 50, "burst": 1}))
        .await;
    let ids = sleeps(&world, 100, 0.0, "tenant", 5).await;
    world.start_mailer();
    for id in &ids {
        world.wait_for(id, "COMPLETED").await;
    }
    let span = "select extract(epoch from max(started_at) - min(started_at))::float8 from tasks";
    let span = world.env.sql::<f64>(span).await;
    // Two seconds, if nobody is late.
    assert!((1.9..20.0).contains(&span), "{span}");
    world.finish().await;
}

#[tokio::test]
async fn what_runs_counts_under_a_new_limit() {
    let world = World::new("lines_running").await;
    let running = sleeps(&world, 2, 4.0, "tenant:one", 5).await;
    for id in &running {
        world.wait_for(id, "PROCESSING").await;
    }
    for (path, name) in [
        ("/limits/key/tenant:*", "tenant:one"),
        ("/limits/kind/demo.sleep", "demo.sleep"),
    ] {
        world.put(path, &json!({"concurrency": 2})).await;
        let holds = format!("select count(*) from limit_holds where name = '{name}'");
        assert_eq!(world.env.sql::<i64>(&holds).await, 2, "{path}");
    }
    let (_, limit) = world
        .put("/limits/kind/demo.sleep", &json!({"concurrency": 1}))
        .await;
    assert_eq!(limit["concurrency"], 1);
    // In force within two seconds: until somebody has to wait.
    let mut late = Vec::new();
    world
        .env
        .wait_until(LONG, "somebody to wait", async || {
            let waiting = "select count(*) from limit_waits";
            late.extend(sleeps(&world, 1, 0.0, "tenant:two", 5).await);
            world.env.sql::<i64>(waiting).await > 0
        })
        .await;
    let held = late.pop().unwrap();
    for id in running.iter().chain([&held]) {
        assert_eq!(world.wait_for(id, "COMPLETED").await["attempt"], 1);
    }
    let ended = async |id: &str| {
        world.task(id).await["finished_at"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let began = world.task(&held).await["started_at"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(began >= ended(&running[0]).await.min(ended(&running[1]).await));
    world.finish().await;
}

/// As after the rescue of an only worker: the message of the lost attempt comes again, beside that of the next.
#[tokio::test]
async fn two_attempts_of_a_task_may_ask_at_once() {
    let world = World::without_mailer("lines_attempts", &[]).await;
    let ids = sleeps(&world, 2, 0.0, "tenant", 5).await;
    world
        .env
        .execute(&format!(
            "update tasks set status = 'RETRYING', attempt = 1 where id = '{}'",
            ids[0]
        ))
        .await;
    let url = world.env.database_url.clone();
    let [retried, fresh] = [&ids[0], &ids[1]].map(|id| Uuid::parse_str(id).unwrap());
    let (claimed, put_off) = tokio::task::spawn_blocking(move || {
        let mut connection = PgConnection::establish(&url).unwrap();
        let allowance = Allowance {
            concurrency: Some(5),
            ..Allowance::default()
        };
        let name = "tenant".to_owned();
        let scope = Scope::Key;
        let rule = Rule {
            scope,
            name,
            allowance,
        };
        let policy = Policy::new([rule], [], []);
        let ids = vec![retried, retried, fresh];
        let asked = Claim::new(Uuid::now_v7(), ids, vec![1, 2, 1]);
        let passed = gate::claim(&mut connection, &asked, &policy).unwrap();
        let claimed = passed.claims.claimed.iter();
        let mut claimed: Vec<_> = claimed.map(|task| (task.id.0, task.attempt)).collect();
        claimed.sort_unstable();
        (claimed, passed.put_off)
    })
    .await
    .unwrap();
    assert_eq!(claimed, [(retried, 2), (fresh, 1)]);
    assert_eq!(put_off, 0);
    let holds = world
        .env
        .rows("select task_id, attempt from limit_holds order by task_id")
        .await;
    let wanted = [(retried, 2), (fresh, 1)];
    let wanted = wanted.map(|(id, attempt)| json!({"task_id": id, "attempt": attempt}));
    assert_eq!(Value::from(holds), json!(wanted));
    world.finish().await;
}
