//! Tasks of workers that died, and workers that were only thought dead.

use crate::world::{LONG, World};
use serde_json::json;
use testkit::{
    endpoint::{Endpoint, Reply},
    inbox::{Action, FaultRule, Phase},
};

const QUICK: &[(&str, &str)] = &[("rescue.heartbeat_s", "1"), ("rescue.lease_s", "3")];

/// A worker that has died, and that nobody has noticed yet.
const DEAD: &str = "insert into workers (id, name, host, pid, version, queues, state)
    values (gen_random_uuid(), 'dead', 'dead', 1, '0', '{mail}', 'alive')";

/// As on a full disk, no point of no return can be recorded.
const REFUSE_POINTS: &str = "create function refuse() returns trigger language plpgsql as
        $$ begin raise exception 'refused for the test' using errcode = '53100'; end $$;
     create trigger refuse before update on tasks for each row
        when (old.point_of_no_return_at is null and new.point_of_no_return_at is not null) execute function refuse()";

/// Makes a task look as if a worker had claimed it and died, before or after its point of no return.
async fn strand(world: &World, id: &str, passed: bool) {
    let point = if passed { "now()" } else { "null" };
    world
        .env
        .execute(&format!(
            "{DEAD};
             update tasks set status = 'PROCESSING', attempt = 1, started_at = now(), worker_id = (select id from workers where name = 'dead' limit 1),
                point_of_no_return_at = {point} where id = '{id}'"
        ))
        .await;
}

/// Has the tasks of the running worker rescued, as if it were dead, while it goes on.
async fn declare_dead(world: &World) {
    let sql = format!("update workers set state = 'lost'; {DEAD}");
    world.env.execute(&sql).await;
}

#[tokio::test]
async fn a_dead_workers_task_is_tried_again() {
    let mut world = World::without_mailer("rescue_retry", QUICK).await;
    let id = world.mail("ada@example.com", json!({})).await;
    strand(&world, &id, true).await;
    world.start_mailer();
    let task = world.wait_for(&id, "COMPLETED").await;
    assert_eq!(task["attempt"], 2);
    assert_eq!(
        world
            .env
            .sql::<String>("select outcome from task_attempts")
            .await,
        "worker_lost"
    );
    assert_eq!(
        world
            .env
            .sql::<String>("select state from workers where name = 'dead'")
            .await,
        "lost"
    );
    assert_eq!(world.inbox.count(), 1);
    world.finish().await;
}

#[tokio::test]
async fn the_tasks_policy_decides_what_a_lost_worker_means() {
    for (policy, status) in [("fail", "FAILED"), ("hold", "UNKNOWN")] {
        let world = World::without_mailer(&format!("rescue_{policy}"), QUICK).await;
        let id = world
            .mail("ada@example.com", json!({"on_worker_lost": policy}))
            .await;
        strand(&world, &id, true).await;
        let task = world.wait_for(&id, status).await;
        assert_eq!(task["error"]["code"], "worker_lost");
        world.finish().await;
    }
}

#[tokio::test]
async fn a_held_task_that_had_not_acted_is_tried_again_while_attempts_are_left() {
    let mut world = World::without_mailer("rescue_ahead", QUICK).await;
    let held = |more| json!({"on_worker_lost": "hold", "max_attempts": more});
    let more = world.mail("ada@example.com", held(2)).await;
    let last = world.mail("bob@example.com", held(1)).await;
    strand(&world, &more, false).await;
    strand(&world, &last, false).await;
    world.wait_for(&last, "FAILED").await;
    world.start_mailer();
    assert_eq!(world.wait_for(&more, "COMPLETED").await["attempt"], 2);
    assert_eq!(world.inbox.count(), 1);
    world.finish().await;
}

/// While the disk is full the mail stands right before its end, the relay waiting for it.
#[tokio::test]
async fn a_mail_is_on_record_before_it_can_be_sent() {
    let mut world = World::without_mailer("rescue_point", QUICK).await;
    world.env.execute(REFUSE_POINTS).await;
    world.start_mailer();
    let terms = json!({"on_worker_lost": "hold"});
    let other = world.mail("other@example.com", json!({})).await;
    let held = world.mail("ada@example.com", terms).await;
    world.wait_for(&other, "COMPLETED").await;
    world.wait_for(&held, "PROCESSING").await;
    let waits = "select count(*) from tasks where point_of_no_return_at is not null";
    assert_eq!(world.env.sql::<i64>(waits).await, 0);
    assert_eq!(world.inbox.count(), 1);

    // Its worker is thought dead and goes on: of two attempts that wait for their record one gets it.
    declare_dead(&world).await;
    world
        .env
        .wait_until(LONG, "the second attempt to begin", async || {
            let task = world.task(&held).await;
            task["attempt"] == 2 && task["status"] == "PROCESSING"
        })
        .await;
    world.env.execute("drop trigger refuse on tasks").await;
    let task = world.wait_for(&held, "COMPLETED").await;
    assert_eq!(task["attempt"], 2, "{task}");
    assert_eq!(world.env.sql::<i64>(waits).await, 1);
    assert_eq!(world.inbox.count(), 2);
    world.finish().await;
}

#[tokio::test]
async fn a_call_is_on_record_before_it_can_be_made() {
    let settings = [QUICK, &[("outbound.allow", "127.0.0.1")]].concat();
    let mut world = World::without_mailer("rescue_call", &settings).await;
    world.env.execute(REFUSE_POINTS).await;
    world.start_mailer();
    let endpoint = Endpoint::start().await.unwrap();
    let call = json!({"kind": "http.request", "payload": {"url": endpoint.url("/")}, "on_worker_lost": "hold"});
    let id = world.accept(&call).await;
    let connected = async || endpoint.connections() == 1;
    let what = "the call to be connected";
    world.env.wait_until(LONG, what, connected).await;
    // It stands before its record, so its worker's death costs it nothing.
    declare_dead(&world).await;
    let begun_again = async || world.task(&id).await["attempt"] == 2;
    let what = "the second attempt to begin";
    world.env.wait_until(LONG, what, begun_again).await;
    assert!(endpoint.requests().is_empty());
    world.env.execute("drop trigger refuse on tasks").await;
    world.wait_for(&id, "COMPLETED").await;
    assert_eq!(endpoint.requests().len(), 1);

    endpoint.reply([Reply::Silence]);
    let id = world.accept(&call).await;
    let asked = async || endpoint.requests().len() == 2;
    world.env.wait_until(LONG, "the call", asked).await;
    declare_dead(&world).await;
    let task = world.wait_for(&id, "UNKNOWN").await;
    assert_eq!(task["error"]["code"], "worker_lost");
    world.finish().await;
}

#[tokio::test]
async fn a_mail_that_may_have_been_sent_waits_for_a_person() {
    let mut world = World::without_mailer("rescue_resolve", QUICK).await;
    world.start_mailer();
    // The relay has the mails and does not say so.
    let silence = FaultRule::new("*", Phase::Dot, Action::Delay { ms: 600_000 });
    world.inbox.set_faults(vec![silence]).unwrap();
    let findings = [
        ("completed", "COMPLETED", 1),
        ("failed", "FAILED", 1),
        ("retry", "COMPLETED", 2),
    ];
    let mut ids = Vec::new();
    for (finding, ..) in findings {
        let to = format!("{finding}@example.com");
        ids.push(world.mail(&to, json!({"on_worker_lost": "hold"})).await);
    }
    world.inbox.wait_for_count(3, LONG).await.unwrap();
    declare_dead(&world).await;
    for id in &ids {
        let task = world.wait_for(id, "UNKNOWN").await;
        assert_eq!(task["error"]["code"], "worker_lost");
    }
    world.inbox.set_faults(Vec::new()).unwrap();
    // What the worker that was thought dead has to say comes too late.
    world.inbox.drop_connections();
    for (id, (finding, status, mails)) in ids.iter().zip(findings) {
        let path = format!("/tasks/{id}/resolve");
        let (answer, task) = world.post(&path, &json!({"as": finding})).await;
        assert_eq!(answer, 200, "{task}");
        world.wait_for(id, status).await;
        let to = format!("{finding}@example.com");
        let arrived = world.inbox.messages();
        let arrived = arrived
            .iter()
            .filter(|mail| mail.envelope_to == [to.clone()]);
        assert_eq!(arrived.count(), mails, "{finding}");
    }
    world.finish().await;
}

/// Of a kind that does not say its point of no return, the claim is it.
#[tokio::test]
async fn a_kind_without_a_point_of_its_own_is_held_from_its_claim() {
    let settings = [QUICK, &[("service.shutdown_grace_s", "1")]].concat();
    let mut world = World::without_mailer("rescue_claimed", &settings).await;
    world.start_mailer();
    let payload = json!({"seconds": 60, "stubborn": true});
    let sleep = json!({"kind": "demo.sleep", "payload": payload, "on_worker_lost": "hold"});
    let id = world.accept(&sleep).await;
    world.wait_for(&id, "PROCESSING").await;
    declare_dead(&world).await;
    world.wait_for(&id, "UNKNOWN").await;
    world.finish().await;
}

#[tokio::test]
async fn a_living_worker_keeps_its_long_tasks() {
    let mut world = World::without_mailer("rescue_living", QUICK).await;
    world.start_mailer();
    world
        .inbox
        .set_faults(vec![FaultRule::new(
            "slow@example.com",
            Phase::Dot,
            Action::Delay { ms: 8_000 },
        )])
        .unwrap();
    let id = world.mail("slow@example.com", json!({})).await;
    assert_eq!(world.wait_for(&id, "COMPLETED").await["attempt"], 1);
    assert_eq!(
        world
            .env
            .sql::<i64>("select count(*) from workers where state <> 'alive'")
            .await,
        0
    );
    world.finish().await;
}

#[tokio::test]
async fn an_outcome_that_comes_too_late_changes_nothing() {
    let mut world = World::without_mailer("rescue_fence", &[]).await;
    world.start_mailer();
    world
        .inbox
        .set_faults(vec![FaultRule::new(
            "slow@example.com",
            Phase::Dot,
            Action::Delay { ms: 1_500 },
        )])
        .unwrap();
    let id = world.mail("slow@example.com", json!({})).await;
    world.wait_for(&id, "PROCESSING").await;
    // Somebody else has taken the task over, as after a rescue.
    world
        .env
        .execute(&format!(
            "update tasks set attempt = 2, worker_id = gen_random_uuid() where id = '{id}'"
        ))
        .await;
    world
        .inbox
        .wait_for_recipient("slow@example.com", LONG)
        .await
        .unwrap();
    world.wait_until_queues_are_empty().await;
    let task = world.task(&id).await;
    assert_ne!(task["status"], "COMPLETED");
    world.finish().await;
}

#[tokio::test]
async fn a_worker_declared_dead_goes_on_under_a_new_id() {
    let mut world = World::without_mailer("rescue_again", QUICK).await;
    world.start_mailer();
    let first = world.mail("first@example.com", json!({})).await;
    world.wait_for(&first, "COMPLETED").await;
    world.env.execute("update workers set state = 'lost'").await;
    world
        .env
        .wait_until(LONG, "the worker to register again", async || {
            world
                .env
                .sql::<i64>("select count(*) from workers where state = 'alive'")
                .await
                == 1
        })
        .await;
    let second = world.mail("second@example.com", json!({})).await;
    world.wait_for(&second, "COMPLETED").await;
    world.finish().await;
}
