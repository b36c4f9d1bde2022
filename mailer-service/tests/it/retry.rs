//! What each class of SMTP reply leads to.

use crate::world::{LONG, World};
use serde_json::{Value, json};
use testkit::inbox::{Action, FaultRule, Phase};

#[tokio::test]
async fn a_temporary_refusal_is_tried_again() {
    let world = World::new("retry_temporary").await;
    let id = world.mail("busy+450x1@example.com", json!({})).await;
    let mail = world
        .inbox
        .wait_for_recipient("busy+450x1@example.com", LONG)
        .await
        .unwrap();
    assert_eq!(mail.header("X-Warren-Task").as_deref(), Some(id.as_str()));
    let task = world.wait_for(&id, "COMPLETED").await;
    assert_eq!(task["attempt"], 2);
    assert_eq!(task["error"], Value::Null);
    let attempt: Value = world
        .env
        .rows("select * from task_attempts")
        .await
        .remove(0);
    assert_eq!(attempt["outcome"], "failed");
    assert_eq!(attempt["error_code"], "smtp_temporary");
    world.finish().await;
}

#[tokio::test]
async fn a_closing_relay_is_tried_again() {
    let world = World::new("retry_421").await;
    let id = world.mail("away+421x1@example.com", json!({})).await;
    assert_eq!(world.wait_for(&id, "COMPLETED").await["attempt"], 2);
    assert_eq!(
        world
            .env
            .sql::<String>("select error_code from task_attempts")
            .await,
        "smtp_421"
    );
    world.finish().await;
}

#[tokio::test]
async fn a_greylisted_mail_waits_longer() {
    let world = World::new("retry_greylist").await;
    let id = world.mail("grey+451@example.com", json!({})).await;
    let task = world.wait_for(&id, "RETRYING").await;
    assert_eq!(task["error"]["code"], "smtp_greylisted");
    assert!(task["next_attempt_at"].is_string());
    world
        .env
        .wait_until(LONG, "the message to wait in its tier", async || {
            world.env.queue_depth("warren.retry.300s").await == 1
        })
        .await;
    world.finish().await;
}

#[tokio::test]
async fn a_permanent_refusal_fails_with_the_relays_words() {
    for (number, reply) in [("550", "550 5.1.1"), ("552", "552 5.2.2")] {
        let world = World::new(&format!("retry_{number}")).await;
        let id = world
            .mail(&format!("gone+{number}@example.com"), json!({}))
            .await;
        let task = world.wait_for(&id, "FAILED").await;
        assert_eq!(task["attempt"], 1);
        assert_eq!(task["error"]["code"], "smtp_permanent");
        let message = task["error"]["message"].as_str().unwrap();
        assert!(message.starts_with(reply), "{message}");
        assert!(
            !message.contains("gone+"),
            "an address in an error: {message}"
        );
        world
            .env
            .wait_until(LONG, "a copy among the dead letters", async || {
                world.env.queue_depth("warren.dead").await == 1
            })
            .await;
        let dead = world.env.get_messages("warren.dead", 1).await.remove(0);
        let envelope: Value = serde_json::from_str(&dead.payload).unwrap();
        assert_eq!(envelope["id"], id);
        world.finish().await;
    }
}

#[tokio::test]
async fn a_task_out_of_attempts_fails() {
    let world = World::new("retry_out").await;
    let id = world
        .mail("busy+450@example.com", json!({"max_attempts": 2}))
        .await;
    let task = world.wait_for(&id, "FAILED").await;
    assert_eq!(task["attempt"], 2);
    assert_eq!(task["error"]["code"], "smtp_temporary");
    assert_eq!(
        world
            .env
            .sql::<i64>("select count(*) from task_attempts")
            .await,
        2
    );
    world.finish().await;
}

#[tokio::test]
async fn a_connection_lost_before_the_data_is_tried_again() {
    let world = World::new("retry_dropdata").await;
    let id = world.mail("cut+dropdatax1@example.com", json!({})).await;
    assert_eq!(world.wait_for(&id, "COMPLETED").await["attempt"], 2);
    assert_eq!(world.inbox.count(), 1);
    assert_eq!(
        world
            .env
            .sql::<String>("select error_code from task_attempts")
            .await,
        "smtp_connection_lost"
    );
    world.finish().await;
}

#[tokio::test]
async fn a_connection_lost_after_the_final_dot_is_a_class_of_its_own() {
    let world = World::new("retry_dropdot").await;
    world
        .inbox
        .set_faults(vec![FaultRule {
            times: Some(1),
            ..FaultRule::new("cut@example.com", Phase::Dot, Action::StoreThenDrop)
        }])
        .unwrap();
    let id = world.mail("cut@example.com", json!({})).await;
    assert_eq!(world.wait_for(&id, "COMPLETED").await["attempt"], 2);
    assert_eq!(
        world
            .env
            .sql::<String>("select error_code from task_attempts")
            .await,
        "smtp_outcome_unknown"
    );
    // The relay had it already: the second copy is recognisable, since nothing in it differs.
    let mails = world
        .inbox
        .wait_for_mails_to("cut@example.com", 2, LONG)
        .await
        .unwrap();
    assert_eq!(mails[0].parsed().message_id, mails[1].parsed().message_id);
    assert_eq!(mails[0].raw, mails[1].raw);
    world.finish().await;
}

#[tokio::test]
async fn a_relay_that_is_away_costs_nothing_but_time() {
    let world = World::new("retry_away").await;
    world.inbox.pause();
    let id = world.mail("patient@example.com", json!({})).await;
    world.wait_for(&id, "RETRYING").await;
    world.inbox.resume();
    world.wait_for(&id, "COMPLETED").await;
    world.finish().await;
}

#[tokio::test]
async fn a_payload_that_no_longer_parses_fails_with_the_fields_name() {
    let mut world = World::without_mailer("retry_payload", &[]).await;
    let id = world.mail("ada@example.com", json!({})).await;
    world
        .env
        .execute("update tasks set payload = '{\"to\": [\"ada@example.com\"], \"subject\": 7}'")
        .await;
    world.start_mailer();
    let task = world.wait_for(&id, "FAILED").await;
    assert_eq!(task["error"]["code"], "invalid_payload");
    assert!(
        task["error"]["message"]
            .as_str()
            .unwrap()
            .contains("/subject"),
        "{task}"
    );
    world.finish().await;
}
