//! Every deed of an operator leaves a line that says who, what and of which task.

use crate::support::{Answer, Api};
use reqwest::Method;
use serde_json::{Value, json};

struct Deed {
    method: Method,
    path: String,
    body: Value,
    status: u16,
    action: &'static str,
    /// The line names the task.
    is_of_task: bool,
}

fn deed(method: Method, path: &str, body: Value, status: u16, action: &'static str) -> Deed {
    Deed {
        method,
        path: path.into(),
        body,
        status,
        action,
        is_of_task: action.starts_with("task."),
    }
}

fn post(path: &str, body: Value, status: u16, action: &'static str) -> Deed {
    deed(Method::POST, path, body, status, action)
}

/// In an order in which each changes something.
fn deeds(id: &str, worker: &str) -> Vec<Deed> {
    let task = format!("/tasks/{id}");
    let filter = json!({"filter": {"kind": "demo.noop"}});
    let cancelled = json!({"filter": {"kind": "demo.noop", "status": ["CANCELLED"]}});
    let canary = json!({"filter": {"kind": "demo.noop"}, "canary": {"first": 2, "min_success": 0.9, "rate_per_s": 5}});
    let limit = "/limits/key/tenant:one";
    vec![
        deed(
            Method::PATCH,
            &task,
            json!({"delay": 600}),
            200,
            "task.reschedule",
        ),
        post(&format!("{task}/cancel"), json!({}), 200, "task.cancel"),
        post(&format!("{task}/retry"), json!({}), 202, "task.retry"),
        post("/tasks/cancel", filter, 200, "task.cancel"),
        post("/tasks/retry", cancelled, 200, "task.retry"),
        post(
            "/tasks/cancel",
            json!({"filter": {"queue": "work"}}),
            200,
            "task.cancel",
        ),
        post(
            "/queues/work/pause",
            json!({"reason": "test"}),
            200,
            "queue.pause",
        ),
        post("/queues/work/resume", json!({}), 204, "queue.resume"),
        post("/kinds/demo.noop/pause", json!({}), 200, "kind.pause"),
        post("/kinds/demo.noop/resume", json!({}), 204, "kind.resume"),
        deed(
            Method::PUT,
            limit,
            json!({"concurrency": 1}),
            201,
            "limit.set",
        ),
        deed(Method::DELETE, limit, json!({}), 204, "limit.remove"),
        post(
            &format!("/workers/{worker}/drain"),
            json!({}),
            202,
            "worker.drain",
        ),
        post(
            &format!("/workers/{worker}/resume"),
            json!({}),
            200,
            "worker.resume",
        ),
        post("/tasks/retry", canary, 202, "replay.start"),
    ]
}

#[tokio::test]
async fn every_deed_is_on_record() {
    let api = Api::start_with("audit_deeds", &[("rescue.lease_s", "600")]).await;
    let id = api.noop().await;
    let worker = uuid::Uuid::now_v7();
    api.env
        .execute(&format!(
            "insert into workers (id, name, host, pid, version, queues, state)
             values ('{worker}', 'one', 'one', 1, '0', '{{work}}', 'alive')"
        ))
        .await;
    let key: String = api.env.sql("select id from api_keys").await;
    for deed in deeds(&id, &worker.to_string()) {
        let what = format!("{} {}", deed.method, deed.path);
        api.env.execute("delete from audit_log").await;
        let request = api.request(deed.method, &format!("/api/v1{}", deed.path));
        let answer = Answer::of(request.json(&deed.body)).await;
        assert_eq!(answer.status, deed.status, "{what}: {answer:?}");
        let lines = api
            .env
            .rows("select api_key_id, actor, action, task_id, at > now() - interval '1 hour' as is_fresh from audit_log")
            .await;
        let written = lines.iter().find(|line| {
            line["action"] == deed.action
                && line["actor"] == "test"
                && line["api_key_id"] == key.as_str()
                && line["is_fresh"] == true
                && (!deed.is_of_task || line["task_id"] == id.as_str())
        });
        assert!(written.is_some(), "{what}: {lines:?}");
    }
    api.finish().await;
}

#[tokio::test]
async fn a_resolution_is_on_record_with_what_was_found() {
    let api = Api::start("audit_resolve").await;
    for finding in ["completed", "failed", "retry"] {
        let id = api.noop().await;
        api.env
            .execute(&format!(
                "update tasks set status = 'UNKNOWN', attempt = 1, error_code = 'x', finished_at = now() where id = '{id}'"
            ))
            .await;
        let path = format!("/api/v1/tasks/{id}/resolve");
        let answer = api.post(&path, &json!({"as": finding})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let lines = format!("select action, actor from audit_log where task_id = '{id}'");
        let action = format!("task.resolve.{finding}");
        assert_eq!(
            api.env.rows(&lines).await,
            [json!({"action": action, "actor": "test"})]
        );
    }
    api.finish().await;
}
