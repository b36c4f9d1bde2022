//! The test environment itself, against the servers of the run.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test fail it as the test itself does"
)]

use std::time::Duration;

use serde_json::json;
use testkit::harness::TestEnv;

/// Publishes to the default exchange of a queue that is declared over AMQP, as a service would.
async fn declare(env: &TestEnv, queue: &str) -> lapin::Connection {
    let properties = lapin::ConnectionProperties::default();
    let connection = lapin::Connection::connect(&env.amqp_url, properties)
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let mut arguments = lapin::types::FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        lapin::types::AMQPValue::LongString("quorum".into()),
    );
    let options = lapin::options::QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    channel
        .queue_declare(queue.into(), options, arguments)
        .await
        .unwrap();
    connection
}

#[tokio::test]
async fn looks_into_queues() {
    let env = TestEnv::new("looks into queues").await;
    assert_eq!(env.queue_depth("warren.dead").await, 0);
    let connection = declare(&env, "warren.dead").await;

    let properties = json!({"message_id": "a-1", "delivery_mode": 2, "headers": {"attempt": 3}});
    assert!(
        env.publish("", "warren.dead", properties, r#"{"id":1}"#)
            .await
    );
    assert!(!env.publish("", "nowhere", json!({}), "").await);
    env.wait_until(Duration::from_secs(5), "one message", async || {
        env.queue_depth("warren.dead").await == 1
    })
    .await;

    let messages = env.get_messages("warren.dead", 10).await;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].payload, r#"{"id":1}"#);
    assert_eq!(messages[0].properties["message_id"], "a-1");
    assert_eq!(messages[0].properties["headers"]["attempt"], 3);
    // Looking has put it back.
    env.wait_until(
        Duration::from_secs(10),
        "the message on the list",
        async || {
            env.queues()
                .await
                .iter()
                .any(|queue| queue.name == "warren.dead" && queue.messages == 1)
        },
    )
    .await;

    assert_eq!(env.close_connections().await, 1);
    env.wait_until(
        Duration::from_secs(5),
        "the closed connection",
        async || !connection.status().connected(),
    )
    .await;
    assert_eq!(env.queue_depth("warren.dead").await, 1);
    env.finish().await;
}

#[tokio::test]
async fn has_a_schema_of_its_own() {
    let (env, other) = tokio::join!(TestEnv::new("schema"), TestEnv::new("schema"));
    assert_ne!(env.schema, other.schema);
    for env in [&env, &other] {
        env.execute(
            "CREATE TABLE tasks (id bigint, status text); INSERT INTO tasks VALUES (1, 'PENDING')",
        )
        .await;
    }
    env.execute("INSERT INTO tasks VALUES (2, NULL)").await;
    assert_eq!(env.sql::<i64>("SELECT count(*) FROM tasks;").await, 2);
    assert_eq!(other.sql::<i64>("SELECT count(*) FROM tasks").await, 1);
    assert_eq!(
        env.sql_opt::<String>("SELECT status FROM tasks WHERE id = 2")
            .await,
        None
    );
    assert_eq!(
        env.sql_opt::<i64>("SELECT id FROM tasks WHERE id = 9")
            .await,
        None
    );
    assert!(
        env.sql::<bool>("SELECT status = 'PENDING' FROM tasks WHERE id = 1")
            .await
    );
    assert_eq!(
        env.rows("SELECT id, status FROM tasks WHERE id = 1").await,
        [json!({"id": 1, "status": "PENDING"})]
    );
    assert!(env.describe().await.contains("PENDING"));

    let (schema, vhost) = (env.schema.clone(), env.vhost.clone());
    env.finish().await;
    // One that was not finished, as after a panic.
    let dropped = other.schema.clone();
    drop(other);

    let left = TestEnv::new("left").await;
    let query =
        format!("SELECT count(*) FROM pg_namespace WHERE nspname IN ('{schema}', '{dropped}')");
    assert_eq!(left.sql::<i64>(&query).await, 0);
    let vhosts = left.management().vhosts().await.unwrap();
    assert!(
        !vhosts.contains(&vhost) && !vhosts.contains(&dropped),
        "{vhosts:?}"
    );
    left.finish().await;
}
