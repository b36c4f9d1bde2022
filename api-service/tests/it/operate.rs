//! What operators do, where a race decides.

use crate::support::Api;
use api_service::{
    auth::{Caller, Scopes},
    queries::{
        audit::Deed,
        operate::{self, Chosen},
    },
};
use shared::{
    db::Session,
    task::{Status, TaskId},
};

/// Between the search and the deed a worker may claim a task.
#[tokio::test]
async fn a_task_that_has_moved_on_is_left_alone() {
    let api = Api::start("operate_moved_on").await;
    let id: uuid::Uuid = api.noop().await.parse().unwrap();
    api.env
        .execute("update tasks set status = 'PROCESSING', attempt = 1")
        .await;
    let config = api.config().clone();
    let deeds = move || {
        let by = Caller {
            key_id: uuid::Uuid::nil(),
            name: "test".into(),
            scopes: Scopes::ALL,
            budget: None,
        };
        let deed = Deed {
            by: &by,
            action: "task.cancel",
            details: None,
            is_bulk: false,
        };
        Session::new(&config.database)
            .run(|connection| {
                let waiting = Chosen::one(TaskId(id), &[Status::Pending]);
                let patience = std::time::Duration::from_secs(1);
                let cancelled = operate::cancel(connection, &waiting, &deed)?;
                let replayed = operate::replay(connection, &waiting, patience, &deed)?;
                let running = Chosen::one(TaskId(id), &[Status::Processing]);
                Ok((
                    cancelled,
                    replayed.len(),
                    operate::cancel(connection, &running, &deed)?,
                ))
            })
            .unwrap()
    };
    let (cancelled, replayed, running) = tokio::task::spawn_blocking(deeds).await.unwrap();
    assert_eq!((cancelled.changed, replayed), (0, 0));
    assert_eq!((running.changed, running.running), (1, 1));
    let lines = "select count(*) from audit_log";
    assert_eq!(api.env.sql::<i64>(lines).await, 1);
    api.finish().await;
}
