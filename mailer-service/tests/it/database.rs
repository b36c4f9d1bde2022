//! A database that refuses to write: a full disk, a failover. Nothing may be given up for it.

use crate::world::{LONG, World};
use serde_json::json;

/// Makes PostgreSQL refuse tasks that become so, with an SQLSTATE.
async fn refuse(world: &World, status: &str, sqlstate: &str) {
    world
        .env
        .execute(&format!(
            "create or replace function refuse() returns trigger language plpgsql as
                $$ begin raise exception 'refused for the test' using errcode = '{sqlstate}'; end $$;
             create trigger refuse before update on tasks for each row
                when (new.status = '{status}' and old.status <> new.status) execute function refuse()"
        ))
        .await;
}

async fn accept_again(world: &World) {
    world.env.execute("drop trigger refuse on tasks").await;
}

/// Until PostgreSQL has refused something: the worker then says that it waits.
async fn wait_until_stuck(world: &World, id: &str, status: &str) {
    for _ in 0..3 {
        assert_eq!(world.wait_for(id, status).await["status"], status);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn an_outcome_waits_until_it_can_be_written() {
    // disk_full, read_only_sql_transaction, query_canceled
    for sqlstate in ["53100", "25006", "57014"] {
        let world = World::new(&format!("database_settle_{sqlstate}")).await;
        refuse(&world, "COMPLETED", sqlstate).await;
        let id = world.mail("ada@example.com", json!({})).await;
        world
            .inbox
            .wait_for_recipient("ada@example.com", LONG)
            .await
            .unwrap();
        wait_until_stuck(&world, &id, "PROCESSING").await;
        accept_again(&world).await;
        let task = world.wait_for(&id, "COMPLETED").await;
        assert_eq!(task["attempt"], 1, "{task}");
        assert_eq!(world.inbox.count(), 1);
        world.finish().await;
    }
}

#[tokio::test]
async fn a_claim_waits_until_it_can_be_written() {
    let mut world = World::without_mailer("database_claim", &[]).await;
    refuse(&world, "PROCESSING", "53100").await;
    let id = world.mail("ada@example.com", json!({})).await;
    world.start_mailer();
    wait_until_stuck(&world, &id, "PENDING").await;
    accept_again(&world).await;
    let task = world.wait_for(&id, "COMPLETED").await;
    assert_eq!(task["attempt"], 1, "{task}");
    let other = world.mail("grace@example.com", json!({})).await;
    world.wait_for(&other, "COMPLETED").await;
    world.finish().await;
}

#[tokio::test]
async fn an_outcome_with_values_that_are_refused_fails_alone() {
    let world = World::new("database_values").await;
    // A check_violation on one of two.
    world
        .env
        .execute(
            "alter table tasks add constraint picky check (status <> 'COMPLETED' or priority <> 1)",
        )
        .await;
    let refused = world.mail("ada@example.com", json!({"priority": 1})).await;
    let other = world.mail("grace@example.com", json!({})).await;
    let task = world.wait_for(&refused, "FAILED").await;
    assert_eq!(task["error"]["code"], "outcome_refused");
    world.wait_for(&other, "COMPLETED").await;
    world.finish().await;
}

#[tokio::test]
async fn operators_are_told_when_the_database_can_t_write() {
    let world = World::without_mailer("database_operator", &[]).await;
    let id = world.mail("ada@example.com", json!({})).await;
    let path = format!("/tasks/{id}/cancel");
    for sqlstate in ["25006", "40001"] {
        refuse(&world, "CANCELLED", sqlstate).await;
        let (status, problem) = world.post(&path, &json!({})).await;
        assert_eq!(status, 503, "{problem}");
        assert_eq!(problem["type"], "/problems/database-unavailable");
        accept_again(&world).await;
    }
    let (status, task) = world.post(&path, &json!({})).await;
    assert_eq!(
        (status.as_u16(), &task["status"]),
        (200, &json!("CANCELLED"))
    );
    world.finish().await;
}
