//! The doctor's findings as a metric.

use super::insert_task;
use crate::support::{Api, LONG};

fn breaches(check: &str, count: u32) -> String {
    format!("warren_conservation_breaches{{check=\"{check}\"}} {count}\n")
}

/// The processes of all tests are one, and so are their metrics: no other test has breaches of these for long.
#[tokio::test]
async fn breaches_are_exported_until_they_are_over() {
    let settings = [
        ("rescue.doctor_s", "1"),
        ("rescue.reconcile_s", "1"),
        ("rescue.lost_after_s", "1"),
    ];
    let api = Api::start_with("doctor_metric", &settings).await;
    // One message for three tasks: a queue that is not empty, so the reconciler can't know.
    api.noop().await;
    api.env
        .wait_until(LONG, "the message", async || {
            api.env.queue_depth("warren.tasks.work.normal").await == 1
        })
        .await;
    for _ in 0..2 {
        insert_task(&api.env, "status", "'PENDING'").await;
    }
    let scheduled = insert_task(&api.env, "status", "'SCHEDULED'").await;
    insert_task(
        &api.env,
        "status, error_code, due_at",
        "'RETRYING', 'unknown_kind', now() + interval '1 hour'",
    )
    .await;
    api.env
        .execute("update tasks set updated_at = now() - interval '1 minute'")
        .await;
    let exports = async |lines: &[String]| {
        api.env
            .wait_until(LONG, &format!("{lines:?}"), async || {
                let metrics = api.get("/metrics").await.text;
                lines.iter().all(|line| metrics.contains(line))
            })
            .await;
    };
    exports(&[
        breaches("waiting_without_message", 2),
        breaches("scheduled_without_time", 1),
        breaches("running_without_worker", 0),
        "warren_tasks_parked{kind=\"demo.noop\"} 1\n".to_owned(),
        "warren_clock_skew_seconds".to_owned(),
    ])
    .await;
    api.env
        .execute(&format!(
            "update tasks set status = 'CANCELLED', finished_at = now() where status = 'PENDING' or id = '{scheduled}'"
        ))
        .await;
    api.env
        .execute("update tasks set due_at = null, status = 'CANCELLED', finished_at = now() where status = 'RETRYING'")
        .await;
    exports(&[
        breaches("waiting_without_message", 0),
        breaches("scheduled_without_time", 0),
        "warren_tasks_parked{kind=\"demo.noop\"} 0\n".to_owned(),
    ])
    .await;
    api.finish().await;
}

#[tokio::test]
async fn one_replica_looks() {
    let settings = [("rescue.doctor_s", "1")];
    let api = Api::start_with("doctor_duty", &settings).await;
    let (replica, stop) = api.replica();
    let on_duty = "select count(*) from pg_locks join pg_stat_activity using (pid)
         where locktype = 'advisory' and (classid::bigint << 32 | objid::bigint)
            = hashtextextended('warren doctor ' || current_schema(), 0)";
    api.env
        .wait_until(LONG, "one to be on duty", async || {
            api.env.sql::<i64>(on_duty).await == 1
        })
        .await;
    let pid: i64 = api.env.sql(&on_duty.replace("count(*)", "pid")).await;
    // Its connection ends: somebody takes over.
    api.env
        .execute(&format!("select pg_terminate_backend({pid})"))
        .await;
    api.env
        .wait_until(LONG, "another to be on duty", async || {
            let now = api
                .env
                .sql_opt::<i64>(&on_duty.replace("count(*)", "pid"))
                .await;
            now.is_some_and(|now| now != pid)
        })
        .await;
    assert_eq!(api.env.sql::<i64>(on_duty).await, 1);
    stop.cancel();
    replica.wait().await.unwrap();
    api.finish().await;
}
