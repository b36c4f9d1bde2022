//! The real program begins anew when it has done enough.

use crate::world::{LONG, World};
use secrecy::ExposeSecret;
use serde_json::json;
use std::process::{Child, Command, Stdio};

const TASKS: usize = 60;

/// Ends the process, whatever the test comes to.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn start(world: &World, watermark: (&str, &str)) -> Running {
    let config = world.config();
    let child = Command::new(env!("CARGO_BIN_EXE_mailer-service"))
        .env_remove("WARREN_CONFIG")
        .env("WARREN__DATABASE__URL", config.database.url.expose_secret())
        .env("WARREN__BROKER__URL", config.broker.url.expose_secret())
        .env("WARREN__WORKER__HTTP_LISTEN", "127.0.0.1:0")
        .env("WARREN__WORKER__QUEUES__WORK__SLOTS", "4")
        .env("WARREN__LOG__LEVEL", "off")
        .env(watermark.0, watermark.1)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Running(child)
}

async fn wait_for_a_fresh_process(world: &World) {
    world
        .env
        .wait_until(LONG, "a fresh process", async || {
            world.env.sql::<i64>("select count(*) from workers").await > 1
        })
        .await;
}

/// One process, which has become another, in order and without leaving anything behind.
async fn check_runs(world: &World, process: &Running) {
    let pids = world.env.rows("select distinct pid from workers").await;
    assert_eq!(pids, [json!({"pid": process.0.id()})]);
    let lost = "select count(*) from workers where state = 'lost'";
    assert_eq!(world.env.sql::<i64>(lost).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_enough_tasks_a_fresh_process_takes_over() {
    let world = World::without_mailer("restart_tasks", &[]).await;
    let process = start(&world, ("WARREN__WORKER__MAX_TASKS", "20"));
    for _ in 0..TASKS {
        let body = json!({"kind": "demo.noop", "payload": {}});
        world.accept(&body).await;
    }
    wait_for_a_fresh_process(&world).await;
    world
        .env
        .wait_until(LONG, "all tasks to be done", async || {
            let open = "select count(*) from tasks where status <> 'COMPLETED'";
            world.env.sql::<i64>(open).await == 0
        })
        .await;
    let again = "select count(*) from tasks where attempt <> 1";
    assert_eq!(world.env.sql::<i64>(again).await, 0);
    check_runs(&world, &process).await;
    drop(process);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_a_process_is_replaced() {
    let world = World::without_mailer("restart_rss", &[]).await;
    // Smaller than any process is.
    let process = start(&world, ("WARREN__WORKER__MAX_RSS_MB", "1"));
    wait_for_a_fresh_process(&world).await;
    check_runs(&world, &process).await;
    drop(process);
    world.finish().await;
}
