//! What operators do to tasks, with a worker behind it.

use crate::world::{LONG, World};
use serde_json::{Value, json};

fn sleep(seconds: f64) -> Value {
    json!({"kind": "demo.sleep", "payload": {"seconds": seconds}})
}

async fn cancel(world: &World, id: &str) -> (u16, Value) {
    let (status, task) = world.post(&format!("/tasks/{id}/cancel"), &json!({})).await;
    (status.as_u16(), task)
}

#[tokio::test]
async fn a_waiting_task_is_cancelled_at_once_and_for_good() {
    let mut world = World::without_mailer("operate_waiting", &[]).await;
    let later = chrono::Utc::now() + chrono::TimeDelta::seconds(2);
    let pending = world.mail("pending@example.com", json!({})).await;
    let scheduled = world
        .mail("scheduled@example.com", json!({"run_at": later}))
        .await;
    let retrying = world.mail("retrying@example.com", json!({})).await;
    world
        .env
        .execute(&format!(
            "update tasks set status = 'RETRYING', attempt = 1, due_at = now() + interval '2 seconds' where id = '{retrying}'"
        ))
        .await;
    for id in [&pending, &scheduled, &retrying] {
        let (status, task) = cancel(&world, id).await;
        assert_eq!((status, &task["status"]), (200, &json!("CANCELLED")));
        // Once more changes nothing.
        assert_eq!(cancel(&world, id).await, (status, task));
    }
    world.start_mailer();
    world
        .env
        .wait_until(LONG, "their times to have passed", async || {
            chrono::Utc::now() > later
        })
        .await;
    let after = world.mail("after@example.com", json!({})).await;
    world.wait_for(&after, "COMPLETED").await;
    world.wait_until_queues_are_empty().await;
    assert_eq!(world.inbox.count(), 1);
    let (status, problem) = cancel(&world, &after).await;
    assert_eq!(
        (status, &problem["type"]),
        (409, &json!("/problems/task-state"))
    );
    assert_eq!(
        world
            .env
            .sql::<i64>("select count(*) from audit_log where action = 'task.cancel' and actor = 'test' and task_id is not null")
            .await,
        3
    );
    world.finish().await;
}

#[tokio::test]
async fn a_running_task_says_how_far_it_is_and_can_be_cancelled() {
    let world = World::new("operate_running").await;
    let id = world.accept(&sleep(500.0)).await;
    world
        .env
        .wait_until(LONG, "progress", async || {
            world.task(&id).await["progress"]["percent"]
                .as_f64()
                .is_some_and(|percent| percent > 0.0)
        })
        .await;
    let note = world.task(&id).await["progress"]["note"].clone();
    assert!(note.as_str().unwrap().ends_with("of 500 s"), "{note}");
    assert_eq!(cancel(&world, &id).await.0, 202);
    let task = world.wait_for(&id, "CANCELLED").await;
    assert_eq!(
        (&task["attempt"], &task["max_attempts"]),
        (&json!(1), &json!(8))
    );
    assert!(task["finished_at"].is_string() && task["next_attempt_at"].is_null());
    world.wait_until_queues_are_empty().await;
    assert_eq!(world.env.sql::<i64>("select count(*) from outbox").await, 0);
    world.finish().await;
}

#[tokio::test]
async fn a_task_that_is_done_in_spite_of_it_is_completed() {
    let world = World::new("operate_stubborn").await;
    let body = json!({"kind": "demo.sleep", "payload": {"seconds": 2.0, "stubborn": true}});
    let id = world.accept(&body).await;
    world.wait_for(&id, "PROCESSING").await;
    cancel(&world, &id).await;
    let task = world.wait_for(&id, "COMPLETED").await;
    assert_eq!(task["result"]["seconds"], 2.0);
    world.finish().await;
}

#[tokio::test]
async fn a_cancelled_task_of_a_dead_worker_is_not_tried_again() {
    let quick = [("rescue.heartbeat_s", "1"), ("rescue.lease_s", "3")];
    let world = World::without_mailer("operate_rescue", &quick).await;
    let id = world.mail("ada@example.com", json!({})).await;
    world
        .env
        .execute(&format!(
            "insert into workers (id, name, host, pid, version, queues, state)
             values (gen_random_uuid(), 'dead', 'dead', 1, '0', '{{mail}}', 'alive');
             update tasks set status = 'PROCESSING', attempt = 1, started_at = now(), worker_id = (select id from workers)
             where id = '{id}'"
        ))
        .await;
    assert_eq!(cancel(&world, &id).await.0, 202);
    world.wait_for(&id, "CANCELLED").await;
    world.finish().await;
}

#[tokio::test]
async fn a_failed_task_gets_another_round() {
    let world = World::new("operate_retry").await;
    let body = json!({"kind": "demo.unreliable", "payload": {"probability": 1, "class": "final"}, "max_attempts": 3});
    let id = world.accept(&body).await;
    let task = world.wait_for(&id, "FAILED").await;
    assert_eq!(
        (&task["attempt"], &task["max_attempts"]),
        (&json!(1), &json!(3))
    );
    for round in 2..4 {
        let path = format!("/tasks/{id}/retry");
        let (status, task) = world.post(&path, &json!({})).await;
        assert_eq!(status, 202, "{task}");
        world
            .env
            .wait_until(LONG, "the next failure", async || {
                let task = world.task(&id).await;
                task["status"] == "FAILED" && task["attempt"] == round
            })
            .await;
        // As many attempts as it was accepted with, from there on.
        assert_eq!(world.task(&id).await["max_attempts"], round + 2);
    }
    world
        .env
        .execute("update tasks set payload = '{\"probability\": 0}'")
        .await;
    world.post(&format!("/tasks/{id}/retry"), &json!({})).await;
    let task = world.wait_for(&id, "COMPLETED").await;
    assert_eq!(
        (&task["attempt"], &task["error"]),
        (&json!(4), &Value::Null)
    );
    let (status, problem) = world.post(&format!("/tasks/{id}/retry"), &json!({})).await;
    assert_eq!(status, 409, "{problem}");
    world.finish().await;
}

#[tokio::test]
async fn failures_are_grouped_and_replayed_by_their_cause() {
    let world = World::new("operate_groups").await;
    let mut ids = Vec::new();
    for n in 0..4 {
        // Full, so that nobody is suppressed for it.
        ids.push(
            world
                .mail(&format!("full{n}+552@example.com"), json!({"tags": ["a"]}))
                .await,
        );
    }
    let divide =
        json!({"kind": "demo.calculate", "payload": {"operation": "divide", "a": 1, "b": 0}});
    ids.push(world.accept(&divide).await);
    for id in &ids {
        world.wait_for(id, "FAILED").await;
    }
    let letters = world.get("/dead-letters").await;
    assert_eq!(letters["considered"], 5);
    let groups = letters["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 2, "{letters}");
    assert_eq!(
        (&groups[0]["kind"], &groups[0]["count"]),
        (&json!("email.send"), &json!(4))
    );
    assert_eq!(groups[1]["error_code"], "no_number");
    assert!(ids.contains(&groups[0]["sample"]["task_id"].as_str().unwrap().to_owned()));

    let fingerprint = &groups[0]["fingerprint"];
    let listed = world
        .get(&format!(
            "/tasks?fingerprint={}",
            fingerprint.as_str().unwrap()
        ))
        .await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 4);
    let mut bulk = json!({"filter": {"fingerprint": fingerprint, "tags": ["a"]}, "dry_run": true});
    let (_, answer) = world.post("/tasks/retry", &bulk).await;
    assert_eq!(
        answer,
        json!({"dry_run": true, "matched": 4, "changed": 0, "running": 0, "next_cursor": null})
    );
    bulk["dry_run"] = json!(false);
    bulk["limit"] = json!(3);
    let (_, answer) = world.post("/tasks/retry", &bulk).await;
    assert_eq!(
        (&answer["matched"], &answer["changed"]),
        (&json!(3), &json!(3))
    );
    assert!(answer["next_cursor"].is_string(), "{answer}");
    bulk["cursor"] = answer["next_cursor"].clone();
    let (_, answer) = world.post("/tasks/retry", &bulk).await;
    assert_eq!(
        (&answer["changed"], &answer["next_cursor"]),
        (&json!(1), &Value::Null)
    );
    for id in &ids[..4] {
        world
            .env
            .wait_until(LONG, "the second failure", async || {
                let task = world.task(id).await;
                task["status"] == "FAILED" && task["attempt"] == 2
            })
            .await;
    }
    assert_eq!(world.task(&ids[4]).await["attempt"], 1);
    world.finish().await;
}

#[tokio::test]
async fn waiting_tasks_are_cancelled_in_bulk() {
    let world = World::without_mailer("operate_bulk_cancel", &[]).await;
    for n in 0..30 {
        world
            .accept(&json!({"kind": "demo.noop", "payload": {}, "tags": [if n % 3 == 0 { "c" } else { "d" }]}))
            .await;
    }
    let (_, answer) = world
        .post(
            "/tasks/cancel",
            &json!({"filter": {"tags": ["c"], "kind": "demo.noop"}}),
        )
        .await;
    assert_eq!(
        (&answer["matched"], &answer["changed"]),
        (&json!(10), &json!(10))
    );
    let left = "select count(*) from tasks where status = 'PENDING' and tags = '{d}'";
    assert_eq!(world.env.sql::<i64>(left).await, 20);
    let logged = "select details->>'changed' || (details->'request')::text from audit_log where task_id is null";
    assert_eq!(
        world.env.sql::<String>(logged).await,
        r#"10{"kind":"demo.noop","tags":1}"#
    );
    let each = "select count(*) from audit_log join tasks on task_id = tasks.id where tasks.status = 'CANCELLED'";
    assert_eq!(world.env.sql::<i64>(each).await, 10);
    let (status, problem) = world.post("/tasks/cancel", &json!({"filter": {}})).await;
    assert_eq!(
        (status.as_u16(), &problem["errors"][0]["pointer"]),
        (422, &json!("/filter"))
    );
    world.finish().await;
}

#[tokio::test]
async fn a_task_runs_at_another_time_until_it_is_claimed() {
    let mut world = World::without_mailer("operate_reschedule", &[]).await;
    let put_off = world.mail("off@example.com", json!({})).await;
    let put_forward = world
        .mail("forward@example.com", json!({"delay": 3600}))
        .await;
    assert_eq!(world.task(&put_forward).await["status"], "SCHEDULED");
    for (id, delay) in [(&put_off, 3600), (&put_forward, 0)] {
        let path = format!("/tasks/{id}");
        let (status, task) = world.patch(&path, &json!({"delay": delay})).await;
        assert_eq!(
            (status.as_u16(), &task["status"]),
            (200, &json!("SCHEDULED"))
        );
    }
    world.start_mailer();
    world.wait_for(&put_forward, "COMPLETED").await;
    world.wait_until_queues_are_empty().await;
    assert_eq!(world.task(&put_off).await["status"], "SCHEDULED");
    let path = format!("/tasks/{put_forward}");
    assert_eq!(world.patch(&path, &json!({"delay": 1})).await.0, 409);
    let path = format!("/tasks/{put_off}");
    assert_eq!(world.patch(&path, &json!({})).await.0, 422);
    world.finish().await;
}

#[tokio::test]
async fn a_task_has_time_limits_of_its_own() {
    let world = World::new("operate_limits").await;
    let body = json!({"kind": "demo.sleep", "payload": {"seconds": 60.0, "stubborn": true},
        "soft_time_limit_s": 1, "hard_time_limit_s": 2, "max_attempts": 1});
    let id = world.accept(&body).await;
    let task = world.wait_for(&id, "FAILED").await;
    assert_eq!(task["error"]["code"], "time_limit");
    let message = task["error"]["message"].as_str().unwrap();
    assert!(message.contains("hard limit of 2s"), "{task}");
    // The handler that listens ends at the soft limit, which follows the hard one down.
    let body = json!({"kind": "demo.sleep", "payload": {"seconds": 60.0},
        "hard_time_limit_s": 1, "max_attempts": 1});
    let id = world.accept(&body).await;
    let task = world.wait_for(&id, "FAILED").await;
    assert_eq!(task["error"]["code"], "time_limit");
    let body = json!({"kind": "demo.noop", "payload": {},
        "soft_time_limit_s": 301, "hard_time_limit_s": 90_000});
    let (status, problem) = world.post("/tasks", &body).await;
    assert_eq!(status, 422);
    assert_eq!(problem["errors"].as_array().unwrap().len(), 2, "{problem}");
    world.finish().await;
}

/// RabbitMQ ends a delivery that is not acknowledged for half an hour.
#[tokio::test]
async fn a_task_of_hours_is_acknowledged_when_it_begins() {
    let world = World::new("operate_hours").await;
    let body = json!({"kind": "demo.sleep", "payload": {"seconds": 7000.0},
        "soft_time_limit_s": 7100, "hard_time_limit_s": 7200});
    let id = world.accept(&body).await;
    world.wait_for(&id, "PROCESSING").await;
    world.wait_until_queues_are_empty().await;
    assert_eq!(world.task(&id).await["status"], "PROCESSING");
    cancel(&world, &id).await;
    world.wait_for(&id, "CANCELLED").await;
    world.finish().await;
}

#[tokio::test]
async fn a_task_tells_its_life() {
    let world = World::new("operate_timeline").await;
    let id = world.mail("busy+450x1@example.com", json!({})).await;
    world.wait_for(&id, "COMPLETED").await;
    let timeline = world.get(&format!("/tasks/{id}/timeline")).await;
    let events: Vec<_> = timeline["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| (event["event"].as_str().unwrap(), event["attempt"].as_i64()))
        .collect();
    assert_eq!(
        events,
        [
            ("accepted", None),
            ("published", Some(1)),
            ("started", Some(1)),
            ("failed", Some(1)),
            ("published", Some(2)),
            ("started", Some(2)),
            ("finished", None)
        ],
        "{timeline}"
    );
    let failed = &timeline["events"][3];
    assert_eq!(failed["error"]["code"], "smtp_temporary");
    assert!(failed["next_attempt_at"].is_string() && failed["worker"].is_string());
    assert_eq!(timeline["events"][6]["status"], "COMPLETED");

    let id = world.accept(&sleep(500.0)).await;
    world.wait_for(&id, "PROCESSING").await;
    cancel(&world, &id).await;
    world.wait_for(&id, "CANCELLED").await;
    let timeline = world.get(&format!("/tasks/{id}/timeline")).await;
    let events = timeline["events"].as_array().unwrap();
    let deed = events
        .iter()
        .find(|event| event["event"] == "operator")
        .unwrap();
    assert_eq!(
        (&deed["action"], &deed["by"]),
        (&json!("task.cancel"), &json!("test"))
    );
    world.finish().await;
}

#[tokio::test]
async fn a_mail_can_ask_to_be_held() {
    let world = World::without_mailer("operate_hold", &[]).await;
    let mail = json!({"to": "ada@example.com", "subject": "s", "text": "t",
        "on_worker_lost": "hold", "delay": 60});
    let (status, answer) = world.post("/emails", &mail).await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(answer["tasks"][0]["status"], "SCHEDULED");
    let lost = "select on_worker_lost from tasks";
    assert_eq!(world.env.sql::<String>(lost).await, "hold");
    world.finish().await;
}

#[tokio::test]
async fn a_mail_that_was_put_off_and_is_sent_now_is_dated_now() {
    let world = World::new("operate_date").await;
    let id = world
        .mail("ada@example.com", json!({"delay": 86_400}))
        .await;
    let (status, task) = world.post(&format!("/tasks/{id}/retry"), &json!({})).await;
    assert_eq!(status, 202, "{task}");
    let mail = world
        .inbox
        .wait_for_recipient("ada@example.com", LONG)
        .await
        .unwrap();
    let date = chrono::DateTime::parse_from_rfc2822(&mail.header("Date").unwrap()).unwrap();
    assert!(date <= chrono::Utc::now(), "{date}");
    world.wait_for(&id, "COMPLETED").await;
    world.finish().await;
}

#[tokio::test]
async fn a_person_settles_what_nobody_could_tell() {
    let mut world = World::without_mailer("operate_resolve", &[]).await;
    let mut ids = Vec::new();
    for to in ["a", "b", "c"] {
        ids.push(world.mail(&format!("{to}@example.com"), json!({})).await);
    }
    world
        .env
        .execute("update tasks set status = 'UNKNOWN', attempt = 1, error_code = 'worker_lost', finished_at = now()")
        .await;
    for (id, (finding, status)) in ids.iter().zip([
        ("completed", "COMPLETED"),
        ("failed", "FAILED"),
        ("retry", "PENDING"),
    ]) {
        let path = format!("/tasks/{id}/resolve");
        let (code, task) = world.post(&path, &json!({"as": finding})).await;
        assert_eq!(
            (code.as_u16(), &task["status"]),
            (200, &json!(status)),
            "{task}"
        );
        assert_eq!(task["error"].is_null(), finding == "completed", "{task}");
        let (code, _) = world.post(&path, &json!({"as": "failed"})).await;
        assert_eq!(code, 409);
    }
    world.start_mailer();
    assert_eq!(world.wait_for(&ids[2], "COMPLETED").await["attempt"], 2);
    world.wait_until_queues_are_empty().await;
    assert_eq!(world.inbox.count(), 1);
    world.finish().await;
}
