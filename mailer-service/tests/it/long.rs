//! Tasks that run for longer than RabbitMQ waits for an acknowledgement: on a server of its own, which waits for seconds
//! where others wait for half an hour.

use crate::world::World;
use serde_json::json;
use std::path::Path;
use testkit::{
    harness::TestEnv,
    services::{RabbitMq, RabbitMqOptions},
};

/// What RabbitMQ logs when it closes a channel for that.
const CLOSED: &str = "timed out waiting for delivery acknowledgement";

async fn impatient() -> RabbitMq {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rabbitmq-long");
    let options = RabbitMqOptions {
        statistics_interval: std::time::Duration::from_millis(500),
        settings: vec![("consumer_timeout".into(), "5000".into())],
        ..RabbitMqOptions::default()
    };
    RabbitMq::start(folder, options).await.unwrap()
}

fn was_closed(rabbitmq: &RabbitMq) -> bool {
    let log = std::fs::read_to_string(rabbitmq.log_path()).unwrap();
    log.contains(CLOSED)
}

/// Two such tasks, the second behind the first; each is done once.
async fn two_sleeps(rabbitmq: &RabbitMq, name: &str, ack_within_s: &str, seconds: f64) {
    let settings = [
        ("worker.queues.work.slots", "1"),
        ("worker.ack_within_s", ack_within_s),
    ];
    let env = TestEnv::on(rabbitmq, name).await;
    let mut world = World::within(env, &settings).await;
    world.start_mailer();
    let body =
        json!({"kind": "demo.sleep", "payload": {"seconds": seconds}, "hard_time_limit_s": 60});
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(world.accept(&body).await);
    }
    for id in &ids {
        let task = world.wait_for(id, "COMPLETED").await;
        assert_eq!(
            (&task["attempt"], &task["result"]["seconds"]),
            (&json!(1), &json!(seconds)),
            "{task}"
        );
    }
    world.wait_until_queues_are_empty().await;
    assert_eq!(world.env.queue_depth("warren.dead").await, 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_outlast_the_consumer_timeout() {
    let rabbitmq = impatient().await;
    // Each runs longer than that, and the second waits longer besides.
    two_sleeps(&rabbitmq, "long_acked", "2", 9.0).await;
    assert!(!was_closed(&rabbitmq), "{}", rabbitmq.log_tail(40));
    // Without it channels are closed, and even so nothing is lost or done twice.
    two_sleeps(&rabbitmq, "long_unacked", "1200", 9.0).await;
    assert!(was_closed(&rabbitmq), "{}", rabbitmq.log_tail(40));
    rabbitmq.discard().await.unwrap();
}
