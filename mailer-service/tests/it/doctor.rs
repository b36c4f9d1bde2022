//! What the doctor repairs beside running services is run by them.

use crate::world::{LONG, World};
use api_service::doctor::{Options, Report, State, examine};
use serde_json::json;

async fn doctor(world: &World, fix: bool) -> Report {
    let config = world.config().clone();
    let options = Options { fix, watch: false };
    tokio::task::spawn_blocking(move || examine(&config, options))
        .await
        .unwrap()
}

fn state(report: &Report, check: &str) -> State {
    report.check(check).unwrap().state
}

#[tokio::test]
async fn what_was_lost_is_found_repaired_and_run() {
    // So long that the services themselves are in no hurry.
    let patient = [
        ("rescue.lost_after_s", "600"),
        ("rescue.reconcile_s", "600"),
    ];
    let mut world = World::without_mailer("doctor_lost", &patient).await;
    let purged = world.mail("purged@example.com", json!({})).await;
    let scheduled = world
        .mail("scheduled@example.com", json!({"delay": 3600}))
        .await;
    let finished = world.mail("finished@example.com", json!({})).await;
    world
        .env
        .wait_until(LONG, "the messages to be published", async || {
            world.env.queue_depth("warren.tasks.mail.normal").await == 2
                && world.env.sql::<i64>("select count(*) from outbox").await == 0
        })
        .await;
    world.env.purge("warren.tasks.mail.normal").await;
    world
        .env
        .execute(&format!(
            "update tasks set updated_at = now() - interval '1 day';
             update tasks set due_at = null, run_at = now() where id = '{scheduled}';
             update tasks set finished_at = now() where id = '{finished}'"
        ))
        .await;
    let report = doctor(&world, false).await;
    let checks = [
        "waiting_without_message",
        "scheduled_without_time",
        "live_but_finished",
    ];
    for check in checks {
        assert_eq!(state(&report, check), State::Finding, "{report}");
    }
    let report = doctor(&world, true).await;
    for check in checks {
        assert_eq!(state(&report, check), State::Fixed, "{report}");
    }
    assert_eq!(report.exit_code(), 0, "{report}");
    world.start_mailer();
    for id in [&purged, &scheduled, &finished] {
        world.wait_for(id, "COMPLETED").await;
    }
    assert_eq!(world.inbox.count(), 3, "each once");
    let report = doctor(&world, false).await;
    assert_eq!(report.exit_code(), 0, "{report}");
    world.finish().await;
}

#[tokio::test]
async fn a_worker_tells_how_far_its_clock_is_off() {
    let quick = [("rescue.heartbeat_s", "1"), ("rescue.lease_s", "3")];
    let mut world = World::without_mailer("doctor_clock", &quick).await;
    world.start_mailer();
    world
        .env
        .wait_until(LONG, "a heartbeat", async || {
            let told = "select count(*) from workers where clock_ahead_s is not null";
            world.env.sql::<i64>(told).await == 1
        })
        .await;
    let ahead: f64 = world
        .env
        .sql("select abs(clock_ahead_s) from workers")
        .await;
    // The same machine; a slow answer may make half a second of it.
    assert!(ahead < 1.0, "{ahead}");
    assert!(world.metrics().await.contains("warren_clock_skew_seconds"));
    world.finish().await;
}
