//! Event streams as their clients meet them; what handlers put out is written by the tests.

use crate::support::{Answer, Api, LONG};
use api_service::auth::Scope;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::harness::{Event, Events, Item, wait_for, wait_until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn ask(api: &Api, id: &str) -> RequestBuilder {
    api.request(Method::GET, &format!("/api/v1/tasks/{id}/events"))
}

async fn follow(api: &Api, id: &str) -> Events {
    Events::of(ask(api, id).send().await.unwrap())
}

async fn begin(api: &Api, id: &str) {
    api.env
        .execute(&format!(
            "update tasks set status = 'PROCESSING', attempt = attempt + 1, started_at = now(), updated_at = now(),
                worker_id = (select id from workers) where id = '{id}'"
        ))
        .await;
}

/// So that the tasks that seem to run are not rescued.
async fn employ(api: &Api) {
    api.env
        .execute(
            "insert into workers (id, name, host, pid, version, queues, state)
             values (gen_random_uuid(), 'test', 'test', 1, '0', '{work}', 'alive')",
        )
        .await;
}

async fn put_out(api: &Api, id: &str, seq: u32, text: &str) {
    api.env
        .execute(&format!(
            "insert into task_output (task_id, attempt, seq, text) select id, attempt, {seq}, '{text}' from tasks where id = '{id}'"
        ))
        .await;
}

async fn end(api: &Api, id: &str, status: &str) {
    api.env
        .execute(&format!(
            "update tasks set status = '{status}', finished_at = now(), updated_at = now() where id = '{id}'"
        ))
        .await;
}

fn texts(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| event.data["text"].as_str())
        .collect()
}

#[tokio::test]
async fn only_readers_get_a_stream_of_a_task_that_exists() {
    let api = Api::start("events_access").await;
    let id = api.noop().await;
    let path = format!("/api/v1/tasks/{id}/events");
    assert_eq!(
        api.open(Method::GET, &path).await.problem(),
        "missing-api-key"
    );
    let submitter = api.key_with(&[Scope::Submit]).await;
    let request = api.client.get(format!("{}{path}", api.url));
    let refused = Answer::of(request.bearer_auth(submitter)).await;
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (403, "insufficient-scope")
    );
    for unknown in ["01890000-0000-7000-8000-000000000001", "x"] {
        let answer = Answer::of(ask(&api, unknown)).await;
        assert_eq!(answer.problem(), "task-not-found");
    }
    let answer = api.get(&format!("{path}?last_event_id=7")).await;
    assert_eq!(
        (answer.problem().as_str(), answer.places()),
        ("invalid-parameters", vec!["last_event_id".to_owned()])
    );
    let answer = Answer::of(ask(&api, &id).header("Last-Event-ID", "x.y")).await;
    assert_eq!(
        (answer.problem().as_str(), answer.places()),
        ("invalid-header", vec!["last-event-id".to_owned()])
    );
    assert_eq!(
        api.post(&path, &json!({})).await.header("allow"),
        "GET, HEAD"
    );
    let head = Answer::of(api.request(Method::HEAD, &path)).await;
    assert_eq!(
        (head.status, head.header("content-type")),
        (200, "text/event-stream")
    );

    let reader = api.key_with(&[Scope::Read]).await;
    let request = api.client.get(format!("{}{path}", api.url));
    let mut events = Events::of(request.bearer_auth(reader).send().await.unwrap());
    let headers = events.response().headers();
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["x-accel-buffering"], "no");
    assert!(matches!(events.item().await, Some(Item::Retry(1000..3000))));
    assert_eq!(events.next().await.unwrap().data["status"], "PENDING");
    api.finish().await;
}

#[tokio::test]
async fn whoever_has_had_the_end_need_not_come_back() {
    let api = Api::start("events_end").await;
    employ(&api).await;
    let id = api.noop().await;
    begin(&api, &id).await;
    for seq in 1..=300 {
        put_out(&api, &id, seq, &format!("{seq},")).await;
    }
    end(&api, &id, "FAILED").await;
    let begun = Instant::now();
    let events = follow(&api, &id).await.rest().await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    let all: Vec<_> = (1..=300).map(|seq| format!("{seq},")).collect();
    assert_eq!(texts(&events), all);
    let last = events.last().unwrap();
    assert_eq!(
        (last.name.as_str(), &last.data["status"]),
        ("end", &json!("FAILED"))
    );
    let again = ask(&api, &id).header("Last-Event-ID", &last.id);
    let again = Answer::of(again).await;
    assert_eq!((again.status, again.text.as_str()), (204, ""));
    let path = format!("/api/v1/tasks/{id}/events?last_event_id={}", last.id);
    assert_eq!(api.get(&path).await.status, 204);
    // The one before it was not the end.
    let before = &events[events.len() - 2].id;
    let path = format!("/api/v1/tasks/{id}/events?last_event_id={before}");
    let mut rest = Events::of(api.request(Method::GET, &path).send().await.unwrap());
    assert_eq!(rest.rest().await, std::slice::from_ref(last));

    // Run again by an operator, it goes on.
    let retried = api
        .post(&format!("/api/v1/tasks/{id}/retry"), &json!({}))
        .await;
    assert_eq!(retried.status, 202);
    let path = format!("/api/v1/tasks/{id}/events?last_event_id={}", last.id);
    let mut more = Events::of(api.request(Method::GET, &path).send().await.unwrap());
    assert_eq!(more.next().await.unwrap().data["status"], "PENDING");
    begin(&api, &id).await;
    assert_eq!(more.next().await.unwrap().data["status"], "PROCESSING");
    put_out(&api, &id, 1, "anew").await;
    end(&api, &id, "COMPLETED").await;
    let names: Vec<_> = more
        .rest()
        .await
        .into_iter()
        .map(|event| event.name)
        .collect();
    assert_eq!(names, ["restart", "output", "end"]);
    api.finish().await;
}

#[tokio::test]
async fn a_silent_stream_shows_that_it_lives() {
    let api = Api::start_with("events_heartbeat", &[("http.stream_heartbeat_s", "1")]).await;
    let id = api.noop().await;
    let mut events = follow(&api, &id).await;
    events.next().await.unwrap();
    for _ in 0..3 {
        let begun = Instant::now();
        let item = events.item().await;
        assert!(matches!(item, Some(Item::Comment(_))), "{item:?}");
        assert!((0.5..5.0).contains(&begun.elapsed().as_secs_f64()));
    }
    end(&api, &id, "CANCELLED").await;
    assert_eq!(events.find("end").await.data["status"], "CANCELLED");
    assert_eq!(events.item().await, None);
    api.finish().await;
}

#[tokio::test]
async fn only_so_many_streams_are_open() {
    let api = Api::start_with("events_limit", &[("http.max_streams", "2")]).await;
    let id = api.noop().await;
    let open = async || {
        let mut events = follow(&api, &id).await;
        events.next().await.unwrap();
        events
    };
    let (first, second) = (open().await, open().await);
    let refused = Answer::of(ask(&api, &id)).await;
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (503, "too-many-streams")
    );
    assert_eq!(refused.header("retry-after"), "5");
    let gauge = api
        .client
        .get(format!("{}/metrics", api.internal_url))
        .send();
    assert!(
        gauge
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
            .contains("warren_streams_open")
    );
    // Whoever hangs up makes room.
    drop(first);
    wait_for(LONG, "a free place", async || {
        let response = ask(&api, &id).send().await.unwrap();
        (response.status() == 200).then_some(response)
    })
    .await;
    drop(second);
    api.finish().await;
}

#[tokio::test]
async fn a_stopping_service_ends_its_streams() {
    let api = Api::start("events_stop").await;
    let id = api.noop().await;
    let mut events = follow(&api, &id).await;
    events.next().await.unwrap();
    let begun = Instant::now();
    api.finish().await;
    assert_eq!(events.item().await, None);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_stream_outlives_an_outage_of_the_database() {
    let settings = [
        ("http.stream_heartbeat_s", "1"),
        ("database.pool_timeout_ms", "300"),
    ];
    let (api, proxy) = Api::start_behind_proxy("events_outage", &settings).await;
    employ(&api).await;
    let id = api.noop().await;
    let mut events = follow(&api, &id).await;
    events.next().await.unwrap();
    proxy.cut().await;
    begin(&api, &id).await;
    put_out(&api, &id, 1, "meanwhile").await;
    for _ in 0..3 {
        let item = events.item().await;
        assert!(matches!(item, Some(Item::Comment(_))), "{item:?}");
    }
    // Others get no stream before it is back.
    let refused = Answer::of(ask(&api, &id)).await;
    assert_eq!(refused.problem(), "database-unavailable");
    proxy.heal().await;
    assert_eq!(events.next().await.unwrap().data["status"], "PROCESSING");
    assert_eq!(events.next().await.unwrap().data["text"], "meanwhile");
    end(&api, &id, "COMPLETED").await;
    assert_eq!(events.next().await.unwrap().name, "end");
    api.finish().await;
}

#[tokio::test]
async fn a_revoked_key_gets_nothing_more() {
    let api = Api::start_with("events_revoked", &[("http.stream_heartbeat_s", "1")]).await;
    employ(&api).await;
    let id = api.noop().await;
    let reader = api.key_with(&[Scope::Read]).await;
    let mut events = {
        let request = api
            .client
            .get(format!("{}/api/v1/tasks/{id}/events", api.url));
        Events::of(request.bearer_auth(&reader).send().await.unwrap())
    };
    events.next().await.unwrap();
    api.env
        .execute("update api_keys set revoked_at = now() where scopes = '{read}'")
        .await;
    wait_until(LONG, "the key to be unknown", async || {
        let request = api.client.get(format!("{}/api/v1/tasks/{id}", api.url));
        Answer::of(request.bearer_auth(&reader)).await.status == 401
    })
    .await;
    begin(&api, &id).await;
    put_out(&api, &id, 1, "secret").await;
    let rest = events.rest().await;
    assert!(rest.is_empty(), "{rest:?}");
    api.finish().await;
}

/// Nothing is lost for one who reads late, and nobody else waits for them.
#[tokio::test]
async fn a_slow_client_gets_everything_and_holds_nobody_up() {
    const PIECES: usize = 400;
    let api = Api::start("events_slow").await;
    employ(&api).await;
    let id = api.noop().await;
    begin(&api, &id).await;
    let address = api.url.trim_start_matches("http://");
    let mut slow = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /api/v1/tasks/{id}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        api.key
    );
    slow.write_all(request.as_bytes()).await.unwrap();
    let mut fast = follow(&api, &id).await;
    fast.next().await.unwrap();
    // More than all buffers between them hold.
    api.env
        .execute(&format!(
            "insert into task_output (task_id, attempt, seq, text)
             select '{id}', 1, seq, rpad(seq || ' ', 32768, 'x') from generate_series(1, {PIECES}) as seq"
        ))
        .await;
    for seq in 1..=PIECES {
        assert_eq!(fast.find("output").await.data["seq"], seq);
    }
    end(&api, &id, "COMPLETED").await;
    assert_eq!(fast.rest().await.last().unwrap().name, "end");
    let mut text = String::new();
    slow.read_to_string(&mut text).await.unwrap();
    let pieces: Vec<_> = text.matches("\"seq\":").collect();
    assert_eq!(pieces.len(), PIECES);
    for seq in 1..=PIECES {
        assert!(text.contains(&format!("\"seq\":{seq},\"text\":\"{seq} xx")));
    }
    assert!(text.contains("event: end\n"));
    api.finish().await;
}

#[tokio::test]
async fn output_goes_with_its_task() {
    let api = Api::start("events_retention").await;
    employ(&api).await;
    let (old, young) = (api.noop().await, api.noop().await);
    for id in [&old, &young] {
        begin(&api, id).await;
        put_out(&api, id, 1, "x").await;
        end(&api, id, "COMPLETED").await;
    }
    // Ids tell when a task was accepted.
    let aged = "018f0000-0000-7000-8000-000000000001";
    api.env
        .execute(&format!(
            "update task_output set task_id = '{aged}' where task_id = '{old}';
             update tasks set id = '{aged}', finished_at = now() - interval '30 days' where id = '{old}'"
        ))
        .await;
    wait_until(LONG, "the old task to be deleted", async || {
        api.get(&format!("/api/v1/tasks/{aged}")).await.status == 404
    })
    .await;
    let left = api.env.rows("select task_id from task_output").await;
    assert_eq!(left, [json!({"task_id": young})]);
    api.finish().await;
}

#[tokio::test]
async fn a_timeline_says_what_is_known_of_the_message() {
    let api = Api::start("events_timeline").await;
    let id = api.noop().await;
    let published = async || -> Value {
        let path = format!("/api/v1/tasks/{id}/timeline");
        let events = api.get(&path).await.json()["events"].clone();
        let events = events.as_array().unwrap();
        let found = events.iter().find(|event| event["event"] == "published");
        found.cloned().unwrap_or_default()
    };
    wait_until(LONG, "the confirm", async || {
        published().await["confirmed"] == true
    })
    .await;
    let message = published().await;
    assert_eq!(
        (&message["at"], &message["attempt"]),
        (&Value::Null, &json!(1))
    );
    assert!(message["after"].is_string() && message["before"].is_null());
    // Not confirmed yet, and tried twice; far enough in the future for no relay to take it.
    api.env
        .execute(&format!(
            "insert into outbox (id, task_id, attempt, kind, lane, exchange, routing_key, publish_after, tries)
             values (gen_random_uuid(), '{id}', 1, 'demo.noop', 'normal', 'x', 'x', now() + interval '1 day', 2)"
        ))
        .await;
    let message = published().await;
    assert_eq!(
        (&message["confirmed"], &message["repeats"]),
        (&json!(false), &json!(2))
    );
    // Nobody is to come for it.
    end(&api, &id, "CANCELLED").await;
    assert_eq!(published().await, Value::Null);
    api.env.execute("delete from outbox").await;
    api.finish().await;
}
