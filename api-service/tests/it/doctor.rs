//! `api-service doctor`: each breach is made, found, and repaired where it can be.

mod broker;
mod metric;

use crate::support::{Api, LONG};
use api_service::doctor::{Check, Options, Report, State, Verdict, examine};
use serde_json::Value;
use shared::config::Config;
use std::process::Command;
use testkit::harness::TestEnv;

const LOOK: Options = Options {
    fix: false,
    watch: false,
};
const FIX: Options = Options {
    fix: true,
    watch: false,
};

async fn doctor(config: &Config, options: Options) -> Report {
    let config = config.clone();
    tokio::task::spawn_blocking(move || examine(&config, options))
        .await
        .unwrap()
}

/// What is neither in order nor a note.
fn wrong(report: &Report) -> Vec<(&str, State)> {
    let is_wrong = |check: &&Check| !matches!(check.state, State::Ok | State::Note);
    let checks = report.checks.iter().filter(is_wrong);
    checks.map(|check| (check.name, check.state)).collect()
}

/// A database and a broker as a service leaves them, with nothing at work on them.
async fn left_alone(name: &str, settings: &[(&str, &str)]) -> (TestEnv, Config) {
    let api = Api::start_with(name, settings).await;
    epoch_is(&api.env, 1).await;
    let config = api.config().clone();
    (api.stop().await, config)
}

async fn epoch_is(env: &TestEnv, epoch: i64) {
    let current = "select coalesce(max(epoch), 0) from broker_epoch";
    env.wait_until(LONG, "the epoch", async || {
        env.sql::<i64>(current).await == epoch
    })
    .await;
    // Declared last.
    let marker = format!("warren.epoch.{epoch}");
    let path = ["exchanges", &env.vhost, &marker];
    env.wait_until(LONG, "its marker", async || {
        env.management().get::<Value>(&path).await.is_ok()
    })
    .await;
}

/// A waiting task without a message; returns its id.
async fn insert_task(env: &TestEnv, columns: &str, values: &str) -> String {
    let id = shared::task::TaskId::now().to_string();
    env.execute(&format!(
        "insert into tasks (id, kind, queue, priority, payload, max_attempts, created_at, updated_at, {columns})
         values ('{id}', 'demo.noop', 'work', 5, '{{}}', 8, now(), now(), {values})"
    ))
    .await;
    id
}

#[tokio::test]
async fn what_is_in_order_is_found_in_order() {
    let api = Api::start("doctor_healthy").await;
    epoch_is(&api.env, 1).await;
    api.noop().await;
    api.env
        .execute("update tasks set updated_at = now() - interval '1 hour'")
        .await;
    api.env
        .wait_until(LONG, "the message", async || {
            api.env.queue_depth("warren.tasks.work.normal").await == 1
                && api.env.sql::<i64>("select count(*) from outbox").await == 0
        })
        .await;
    let report = doctor(api.config(), LOOK).await;
    assert_eq!(wrong(&report), [], "{report}");
    assert_eq!(report.verdict, Verdict::Healthy);
    // Nothing to repair: nothing is changed.
    let report = doctor(api.config(), FIX).await;
    assert_eq!(wrong(&report), [], "{report}");
    assert_eq!(audit_lines(&api.env).await, 0);
    api.finish().await;
}

async fn audit_lines(env: &TestEnv) -> i64 {
    env.sql("select count(*) from audit_log where actor = 'command line' and api_key_id is null and action = 'doctor.fix'")
        .await
}

/// Each is broken once, and only so.
async fn break_rows(env: &TestEnv) -> Vec<(&'static str, String)> {
    let mut broken = Vec::new();
    let mut task = async |check, columns, values| {
        broken.push((check, insert_task(env, columns, values).await));
    };
    task("scheduled_without_time", "status", "'SCHEDULED'").await;
    task(
        "due_long_ago",
        "status, attempt, due_at",
        "'RETRYING', 1, now() - interval '1 hour'",
    )
    .await;
    task(
        "cancelled_but_waiting",
        "status, cancel_requested_at",
        "'PENDING', now()",
    )
    .await;
    task("final_but_live", "status", "'COMPLETED'").await;
    task(
        "useless_but_waiting",
        "status, useful_until",
        "'PENDING', now() - interval '1 hour'",
    )
    .await;
    task(
        "live_but_finished",
        "status, finished_at",
        "'PENDING', now()",
    )
    .await;
    task(
        "finished_with_time",
        "status, finished_at, due_at",
        "'COMPLETED', now(), now() + interval '1 hour'",
    )
    .await;
    task(
        "running_without_worker",
        "status, attempt, worker_id",
        "'PROCESSING', 1, gen_random_uuid()",
    )
    .await;
    let running = &broken.last().unwrap().1;
    env.execute(&format!(
        "update tasks set updated_at = now() - interval '1 hour' where id = '{running}'"
    ))
    .await;
    let unroutable = insert_task(env, "status", "'PENDING'").await;
    insert_message(env, &unroutable, "warren.retry.7s", "now()").await;
    broken.push(("outbox_unroutable", unroutable));
    let nobody = shared::task::TaskId::now().to_string();
    insert_message(
        env,
        &nobody,
        "warren.tasks",
        "now() - interval '61 seconds'",
    )
    .await;
    broken.push(("outbox_without_task", nobody));
    let gone = shared::task::TaskId::now().to_string();
    env.execute(&format!(
        "insert into task_attempts (task_id, attempt, outcome, ended_at) values ('{gone}', 1, 'failed', now())"
    ))
    .await;
    broken.push(("attempts_without_task", gone));
    let request = shared::task::TaskId::now().to_string();
    env.execute(&format!(
        "insert into idempotency_keys (api_key_id, key, request_id, request_hash, status, answer, created_at)
         values (gen_random_uuid(), 'k', '{request}', '', 202, '', now() - interval '3 days')"
    ))
    .await;
    broken.push(("old_idempotency_keys", request));
    broken
}

async fn insert_message(env: &TestEnv, task: &str, exchange: &str, publish_after: &str) {
    env.execute(&format!(
        "insert into outbox (id, task_id, attempt, kind, lane, exchange, routing_key, publish_after)
         values (gen_random_uuid(), '{task}', 1, 'demo.noop', 'normal', '{exchange}', 'work.normal', {publish_after})"
    ))
    .await;
}

#[tokio::test]
async fn broken_rows_are_found_and_put_right() {
    let (env, config) = left_alone("doctor_rows", &[]).await;
    let broken = break_rows(&env).await;
    let report = doctor(&config, LOOK).await;
    assert_eq!(report.exit_code(), 1);
    for (name, id) in &broken {
        let check = report.check(name).unwrap();
        assert_eq!(
            (check.state, check.count),
            (State::Finding, Some(1)),
            "{report}"
        );
        assert!(check.samples.contains(id) && check.fixable, "{check:?}");
    }
    let also = wrong(&report).into_iter().map(|(name, _)| name);
    let also: Vec<_> = also
        .filter(|name| !broken.iter().any(|(broken, _)| broken == name))
        .collect();
    // The message of no task is late, too.
    assert_eq!(also, ["outbox_overdue"], "{report}");

    let fixed = doctor(&config, FIX).await;
    for (name, _) in &broken {
        let check = fixed.check(name).unwrap();
        assert_eq!(check.state, State::Fixed, "{fixed}");
    }
    assert!(audit_lines(&env).await >= i64::try_from(broken.len()).unwrap());
    let again = doctor(&config, LOOK).await;
    assert_eq!(wrong(&again), [], "{again}");

    let id = |name: &str| &broken.iter().find(|(other, _)| *other == name).unwrap().1;
    let status = async |name: &str| {
        let task = id(name);
        env.sql::<String>(&format!("select status from tasks where id = '{task}'"))
            .await
    };
    assert_eq!(status("cancelled_but_waiting").await, "CANCELLED");
    assert_eq!(status("useless_but_waiting").await, "EXPIRED");
    assert_eq!(status("running_without_worker").await, "RETRYING");
    // Each of them has its message now, to where it can go.
    for name in [
        "due_long_ago",
        "running_without_worker",
        "outbox_unroutable",
    ] {
        let task = id(name);
        let message = format!(
            "select exchange || ' ' || routing_key from outbox join tasks on tasks.id = task_id and tasks.attempt + 1 = outbox.attempt
             where task_id = '{task}'"
        );
        assert_eq!(
            env.sql::<String>(&message).await,
            "warren.tasks work.normal",
            "{name}"
        );
    }
    env.finish().await;
}

#[tokio::test]
async fn what_only_people_can_repair_is_named() {
    let (env, config) = left_alone("doctor_people", &[]).await;
    let lost = insert_task(
        &env,
        "status, due_at",
        "'SCHEDULED', now() + interval '1 hour'",
    )
    .await;
    let parked = insert_task(
        &env,
        "status, error_code, due_at",
        "'RETRYING', 'unknown_kind', now() + interval '1 hour'",
    )
    .await;
    let refused = insert_task(&env, "status", "'PENDING'").await;
    insert_message(&env, &refused, "warren.tasks", "now()").await;
    env.execute(&format!(
        "update tasks set queue = 'gpu' where id = '{lost}';
         update outbox set tries = 10;
         insert into workers (id, name, host, pid, version, queues, state, heartbeat_at, clock_ahead_s)
         values (gen_random_uuid(), 'quiet', 'here', 1, '0', '{{work}}', 'alive', now() - interval '1 hour', -3.5)"
    ))
    .await;
    for options in [LOOK, FIX] {
        let report = doctor(&config, options).await;
        let found = wrong(&report);
        let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            [
                "unknown_queue",
                "parked_kinds",
                "outbox_overdue",
                "silent_workers",
                "worker_clocks"
            ],
            "{report}"
        );
        assert!(found.iter().all(|(_, state)| *state == State::Finding));
        let text = report.to_string();
        for part in [
            &lost,
            &parked,
            &refused,
            "NTP",
            "rescue.clock_skew_s",
            "--watch",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(report.exit_code(), 1);
    }
    env.finish().await;
}

#[tokio::test]
async fn a_worker_that_gives_no_sign_is_watched_and_its_task_rescued() {
    let settings = [("rescue.lease_s", "2"), ("rescue.heartbeat_s", "1")];
    let (env, config) = left_alone("doctor_watch", &settings).await;
    env.execute(
        "insert into workers (id, name, host, pid, version, queues, state)
         values (gen_random_uuid(), 'dead', 'here', 1, '0', '{work}', 'alive')",
    )
    .await;
    let worker = "(select id from workers)";
    let task = insert_task(
        &env,
        "status, attempt, worker_id",
        &format!("'PROCESSING', 1, {worker}"),
    )
    .await;
    let watch = |fix| Options { fix, watch: true };
    let report = doctor(&config, watch(false)).await;
    assert_eq!(
        wrong(&report),
        [("stale_leases", State::Finding)],
        "{report}"
    );
    let report = doctor(&config, watch(true)).await;
    assert_eq!(wrong(&report), [("stale_leases", State::Fixed)], "{report}");
    let state = format!(
        "select tasks.status || ' ' || workers.state from tasks join workers on workers.id = worker_id where tasks.id = '{task}'"
    );
    assert_eq!(env.sql::<String>(&state).await, "RETRYING lost");
    assert_eq!(env.sql::<i64>("select count(*) from outbox").await, 1);
    let report = doctor(&config, watch(true)).await;
    assert_eq!(wrong(&report), [], "{report}");
    env.finish().await;
}

#[tokio::test]
async fn the_command_answers_people_and_programs() {
    let (env, _) = left_alone("doctor_command", &[]).await;
    let run = |url: &str, arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_api-service"))
            .arg("doctor")
            .args(arguments)
            .env("WARREN__DATABASE__URL", url)
            .env("WARREN__BROKER__URL", &env.amqp_url)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), text)
    };
    let (code, text) = run(&env.database_url, &[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.ends_with("healthy\n"), "{text}");
    insert_task(&env, "status", "'SCHEDULED'").await;
    let (code, text) = run(&env.database_url, &["--json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["verdict"]), (1, &Value::from("findings")));
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["state"] == "finding");
    assert_eq!(found.unwrap()["name"], "scheduled_without_time");
    let (code, text) = run("postgres://nobody@127.0.0.1:1/nothing", &[]);
    assert_eq!(code, 2);
    assert!(
        text.contains("UNCHECKED") && text.contains("database.url") && text.contains("topology"),
        "{text}"
    );
    let (code, text) = run(&env.database_url, &["--fix"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("FIXED"), "{text}");
    env.finish().await;
}

#[tokio::test]
async fn the_due_time_of_a_finished_task_makes_no_message() {
    let api = Api::start("doctor_due").await;
    let due = "now() - interval '1 second'";
    let finished = insert_task(
        &api.env,
        "status, finished_at, due_at",
        &format!("'COMPLETED', now(), {due}"),
    )
    .await;
    let waiting = insert_task(&api.env, "status, due_at", &format!("'SCHEDULED', {due}")).await;
    api.env
        .wait_until(LONG, "both to be woken", async || {
            let due = "select count(*) from tasks where due_at is not null";
            api.env.sql::<i64>(due).await == 0
                && api.env.queue_depth("warren.tasks.work.normal").await > 0
        })
        .await;
    let messages = api.env.get_messages("warren.tasks.work.normal", 10).await;
    assert_eq!(messages.len(), 1);
    assert!(messages[0].payload.contains(&waiting));
    assert_ne!(finished, waiting);
    api.finish().await;
}
