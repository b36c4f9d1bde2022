//! Lists: filters, and pages that leave nothing out.

use crate::support::Api;
use serde_json::{Value, json};

async fn ids(api: &Api, query: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("/api/v1/tasks?{query}{cursor}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        let page = page.json();
        ids.extend(page["items"].as_array().unwrap().iter().map(|task| {
            assert!(task.get("payload").is_none());
            task["id"].as_str().unwrap().to_owned()
        }));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids,
        }
    }
}

#[tokio::test]
async fn pages_hold_everything_once_and_newest_first() {
    let api = Api::start_with("list_pages", &[("http.max_page", "40")]).await;
    let mut made = Vec::new();
    for _ in 0..23 {
        made.push(api.noop().await);
    }
    made.reverse();
    for limit in [1, 5, 23, 40] {
        assert_eq!(ids(&api, &format!("limit={limit}")).await, made, "{limit}");
        assert_eq!(
            ids(&api, &format!("limit={limit}&kind=demo.noop")).await,
            made,
            "{limit}"
        );
    }
    let page = api.get("/api/v1/tasks").await.json();
    assert_eq!(page["items"].as_array().unwrap().len(), 23);
    assert_eq!(page["next_cursor"], Value::Null);
    api.finish().await;
}

#[tokio::test]
async fn filters() {
    let api = Api::start("list_filters").await;
    let tagged = json!({"kind": "demo.noop", "payload": {}, "tags": ["a", "b c"]});
    let one = api.post("/api/v1/tasks", &tagged).await.accepted();
    let two = api.noop().await;
    let mail = json!({"to": "ada@example.com", "subject": "Hi", "text": "x"});
    let three = api.post("/api/v1/emails", &mail).await.accepted();
    api.env
        .execute(&format!(
            "update tasks set status = 'FAILED', error_code = 'smtp_550', error_message = 'no such user', finished_at = now() where id = '{two}'"
        ))
        .await;
    for (query, expected) in [
        ("status=FAILED", vec![&two]),
        ("status=PENDING", vec![&three, &one]),
        ("status=FAILED,PENDING", vec![&three, &two, &one]),
        ("status=COMPLETED", vec![]),
        ("kind=email.send", vec![&three]),
        ("queue=work", vec![&two, &one]),
        ("queue=ai", vec![]),
        ("tag=a", vec![&one]),
        ("tag=a&tag=b%20c", vec![&one]),
        ("tag=a&tag=z", vec![]),
        ("tag=a&status=FAILED", vec![]),
    ] {
        assert_eq!(
            ids(&api, query).await.iter().collect::<Vec<_>>(),
            expected,
            "{query}"
        );
    }
    let failed = api.get("/api/v1/tasks?status=FAILED").await.json();
    assert_eq!(
        failed["items"][0]["error"],
        json!({"code": "smtp_550", "message": "no such user"})
    );

    // To the millisecond, the first included and the last not.
    let created = api.get(&format!("/api/v1/tasks/{two}")).await.json()["created_at"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        ids(&api, &format!("created_after={created}"))
            .await
            .contains(&two)
    );
    assert!(
        !ids(&api, &format!("created_before={created}"))
            .await
            .contains(&two)
    );
    assert!(
        ids(&api, "created_after=2100-01-01T00:00:00Z")
            .await
            .is_empty()
    );
    api.finish().await;
}

#[tokio::test]
async fn a_rare_task_in_a_long_history_is_found() {
    let api = Api::start("list_history").await;
    let first = api.noop().await;
    let mail = json!({"to": "ada@example.com", "subject": "Hi", "text": "x"});
    let rare = api.post("/api/v1/emails", &mail).await.accepted();
    api.env
        .execute(&format!(
            "update tasks set status = 'COMPLETED', finished_at = now();
             insert into tasks (id, kind, queue, priority, status, payload, max_attempts, created_at, updated_at, finished_at)
             select overlay(overlay(gen_random_uuid()::text placing substr('{rare}', 1, 13) from 1 for 13) placing '7fff' from 15 for 4)::uuid,
                 'demo.noop', 'work', 5, 'COMPLETED', '{{}}', 1, now(), now(), now()
             from generate_series(1, 45000)"
        ))
        .await;
    assert_eq!(
        ids(&api, "kind=email.send&status=COMPLETED").await,
        std::slice::from_ref(&rare)
    );
    assert_eq!(
        ids(&api, "kind=email.send&status=EXPIRED").await,
        Vec::<String>::new()
    );
    let noops = ids(&api, "kind=demo.noop&limit=200").await;
    assert_eq!(noops.len(), 45_001);
    assert_eq!(noops.last(), Some(&first));
    api.finish().await;
}
