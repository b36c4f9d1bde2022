//! What the doctor says of the broker.

use super::{FIX, LOOK, doctor, epoch_is, insert_task, left_alone, wrong};
use crate::support::{Api, LONG};
use api_service::doctor::{Options, State};
use lapin::{
    Connection, ConnectionProperties, ExchangeKind,
    options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeclareOptions},
    types::FieldTable,
};
use serde_json::json;
use shared::config::Config;
use testkit::harness::TestEnv;

const QUEUE: &str = "warren.tasks.work.normal";

/// A service accepts three tasks and ends; their messages are in the broker.
async fn three_published(name: &str) -> (TestEnv, Config) {
    let api = Api::start(name).await;
    epoch_is(&api.env, 1).await;
    for _ in 0..3 {
        api.noop().await;
    }
    api.env
        .wait_until(LONG, "the messages", async || {
            api.env.queue_depth(QUEUE).await == 3 && messages(&api.env).await == 0
        })
        .await;
    let config = api.config().clone();
    (api.stop().await, config)
}

async fn messages(env: &TestEnv) -> i64 {
    env.sql("select count(*) from outbox").await
}

async fn age(env: &TestEnv) {
    env.execute("update tasks set updated_at = now() - interval '1 hour'")
        .await;
}

#[tokio::test]
async fn messages_that_are_gone_are_counted_and_made_again() {
    let (env, config) = three_published("doctor_purged").await;
    env.purge(QUEUE).await;
    let report = doctor(&config, LOOK).await;
    assert_eq!(wrong(&report), [], "too early to tell: {report}");
    age(&env).await;
    let report = doctor(&config, LOOK).await;
    assert_eq!(
        wrong(&report),
        [("waiting_without_message", State::Finding)],
        "{report}"
    );
    let check = report.check("waiting_without_message").unwrap();
    assert_eq!((check.count, check.samples.len()), (Some(3), 3));
    assert!(check.says.contains("work.normal"), "{}", check.says);
    let report = doctor(&config, FIX).await;
    assert_eq!(
        wrong(&report),
        [("waiting_without_message", State::Fixed)],
        "{report}"
    );
    assert_eq!(messages(&env).await, 3);
    let report = doctor(&config, FIX).await;
    assert_eq!(wrong(&report), [], "{report}");
    assert_eq!(messages(&env).await, 3);
    env.finish().await;
}

#[tokio::test]
async fn a_queue_that_is_gone_is_made_again_and_so_are_its_messages() {
    let (env, config) = three_published("doctor_deleted").await;
    env.management()
        .delete_queue(&env.vhost, QUEUE)
        .await
        .unwrap();
    let report = doctor(&config, LOOK).await;
    assert_eq!(wrong(&report), [("topology", State::Finding)], "{report}");
    assert_eq!(
        report.check("topology").unwrap().samples,
        [format!("queue {QUEUE}")]
    );
    // A look makes nothing.
    let report = doctor(&config, LOOK).await;
    assert_eq!(report.check("topology").unwrap().state, State::Finding);
    let report = doctor(&config, FIX).await;
    assert_eq!(
        wrong(&report),
        [
            ("topology", State::Fixed),
            ("waiting_without_message", State::Fixed)
        ],
        "{report}"
    );
    assert_eq!(messages(&env).await, 3);
    // Bound, so that a message finds it.
    let is_routed = env
        .publish("warren.tasks", "work.normal", json!({}), "{}")
        .await;
    assert!(is_routed);
    let report = doctor(&config, LOOK).await;
    assert_eq!(wrong(&report), [], "{report}");
    env.finish().await;
}

#[tokio::test]
async fn what_was_declared_otherwise_is_named() {
    let (env, config) = left_alone("doctor_different", &[]).await;
    env.management()
        .delete_queue(&env.vhost, "warren.tasks.ai.low")
        .await
        .unwrap();
    env.management()
        .delete_queue(&env.vhost, "warren.dead")
        .await
        .unwrap();
    let connection = Connection::connect(&env.amqp_url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let durable = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let classic =
        channel.queue_declare("warren.tasks.ai.low".into(), durable, FieldTable::default());
    classic.await.unwrap();
    let report = doctor(&config, FIX).await;
    let check = report.check("topology").unwrap();
    assert_eq!(
        (check.state, check.count),
        (State::Finding, Some(1)),
        "{report}"
    );
    assert!(check.says.contains("warren.tasks.ai.low"), "{report}");
    assert!(
        check.remedy.as_ref().unwrap().contains("delete"),
        "{report}"
    );
    assert!(
        check.fixed.as_ref().unwrap().contains("warren.dead"),
        "{report}"
    );
    env.management()
        .delete_queue(&env.vhost, "warren.tasks.ai.low")
        .await
        .unwrap();
    let report = doctor(&config, FIX).await;
    assert_eq!(wrong(&report), [("topology", State::Fixed)], "{report}");

    let exchange =
        channel.exchange_delete("warren.events".into(), ExchangeDeleteOptions::default());
    exchange.await.unwrap();
    let options = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let fanout = channel.exchange_declare(
        "warren.events".into(),
        ExchangeKind::Fanout,
        options,
        FieldTable::default(),
    );
    fanout.await.unwrap();
    let report = doctor(&config, LOOK).await;
    assert_eq!(wrong(&report), [("topology", State::Finding)], "{report}");
    assert_eq!(
        report.check("topology").unwrap().samples,
        ["exchange warren.events"]
    );
    connection.close(200, "done".into()).await.unwrap();
    env.finish().await;
}

#[tokio::test]
async fn a_broker_without_our_data_begins_an_epoch() {
    let (env, config) = three_published("doctor_wiped").await;
    env.recreate_vhost().await;
    let report = doctor(&config, LOOK).await;
    assert_eq!(
        wrong(&report),
        [
            ("topology", State::Finding),
            ("broker_epoch", State::Finding)
        ],
        "{report}"
    );
    let report = doctor(&config, FIX).await;
    assert!(report.exit_code() == 0, "{report}");
    assert_eq!(report.check("broker_epoch").unwrap().state, State::Fixed);
    epoch_is(&env, 2).await;
    assert_eq!(messages(&env).await, 3);
    let report = doctor(&config, LOOK).await;
    assert_eq!(wrong(&report), [], "{report}");
    env.finish().await;
}

#[tokio::test]
async fn an_attempt_whose_message_left_its_tier_waits_in_the_database() {
    let (env, config) = left_alone("doctor_tier", &[]).await;
    let task = insert_task(
        &env,
        "status, attempt, next_attempt_at",
        "'RETRYING', 1, now() + interval '5 minutes'",
    )
    .await;
    let report = doctor(&config, LOOK).await;
    assert_eq!(
        wrong(&report),
        [("delayed_without_message", State::Finding)],
        "{report}"
    );
    // With its message there, all is well.
    env.publish("warren.retry.300s", "work.normal", json!({}), "{}")
        .await;
    let report = doctor(&config, LOOK).await;
    assert_eq!(wrong(&report), [], "{report}");
    env.purge("warren.retry.300s").await;
    let report = doctor(&config, FIX).await;
    assert_eq!(
        wrong(&report),
        [("delayed_without_message", State::Fixed)],
        "{report}"
    );
    let waits = format!("select (due_at = next_attempt_at)::text from tasks where id = '{task}'");
    assert_eq!(env.sql::<String>(&waits).await, "true");
    env.finish().await;
}

#[tokio::test]
async fn what_can_t_be_reached_is_not_called_healthy() {
    let (env, config) = left_alone("doctor_unreachable", &[]).await;
    let with = |key: &'static str, url: &'static str| {
        let mut config = config.clone();
        let other = Config::with(&[(key, url)]).unwrap();
        if key == "broker.url" {
            config.broker = other.broker;
        } else {
            config.database = other.database;
        }
        config
    };
    let no_broker = with("broker.url", "amqp://nobody:x@127.0.0.1:1/%2f");
    let report = doctor(&no_broker, LOOK).await;
    assert_eq!(wrong(&report), [("broker", State::Unchecked)], "{report}");
    assert_eq!(report.exit_code(), 2);
    let no_database = with("database.url", "postgres://nobody@127.0.0.1:1/nothing");
    for fix in [false, true] {
        let options = Options { fix, watch: true };
        let report = doctor(&no_database, options).await;
        assert_eq!(wrong(&report), [("database", State::Unchecked)], "{report}");
        // The broker is looked at all the same.
        assert_eq!(report.check("topology").unwrap().state, State::Ok);
        assert_eq!(report.exit_code(), 2);
    }
    env.finish().await;
}
