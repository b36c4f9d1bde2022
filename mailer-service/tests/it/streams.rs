//! Following tasks as they run: output and its events, from the handler to the client.

use crate::world::{LONG, World};
use serde_json::{Value, json};
use testkit::harness::Event;

fn stream(chunks: u32, interval_ms: u32, fields: &Value) -> Value {
    let mut payload = json!({"chunks": chunks, "interval_ms": interval_ms});
    let fields = fields.as_object().cloned().unwrap_or_default();
    payload.as_object_mut().unwrap().extend(fields);
    json!({"kind": "demo.stream", "payload": payload})
}

/// What an attempt put out, whose pieces must follow one another without a gap.
fn text(events: &[Event], attempt: i64) -> String {
    let mut text = String::new();
    let pieces = events
        .iter()
        .filter(|event| event.name == "output" && event.data["attempt"] == attempt);
    for (number, piece) in (1..).zip(pieces) {
        assert_eq!(piece.data["seq"], number, "{events:#?}");
        text.push_str(piece.data["text"].as_str().unwrap());
    }
    text
}

/// The numbers of the lines that `demo.stream` writes.
fn lines(text: &str) -> Vec<u32> {
    let number = |line: &str| line.split(' ').next().unwrap().parse().unwrap();
    text.lines().map(number).collect()
}

fn names(events: &[Event]) -> Vec<&str> {
    let mut names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
    names.retain(|name| *name != "progress");
    names.dedup();
    names
}

#[tokio::test]
async fn a_task_is_followed_from_before_its_start_to_its_end() {
    let mut world = World::without_mailer("streams_whole", &[]).await;
    let id = world.accept(&stream(60, 25, &json!({}))).await;
    let mut events = world.follow(&id, "").await;
    let first = events.next().await.unwrap();
    assert_eq!(
        (first.name.as_str(), &first.data["status"]),
        ("state", &json!("PENDING"))
    );
    world.start_mailer();
    let events = events.rest().await;
    assert_eq!(names(&events), ["state", "output", "end"], "{events:#?}");
    assert_eq!(events[0].data["status"], "PROCESSING");
    assert_eq!(lines(&text(&events, 1)), (1..=60).collect::<Vec<_>>());
    let progress: Vec<_> = events
        .iter()
        .filter(|event| event.name == "progress")
        .map(|event| event.data["percent"].as_f64().unwrap())
        .collect();
    assert!(!progress.is_empty() && progress.is_sorted(), "{progress:?}");
    let end = &events.last().unwrap().data;
    assert_eq!(end["status"], "COMPLETED");
    assert_eq!(end["result"]["chunks"], 60);
    assert_eq!(end["id"], id);

    // Gathered: four writes a second, and the last with the outcome.
    let short = "select count(*) from (select at - lag(at) over (order by seq) as gap, lead(seq) over (order by seq) as next
        from task_output) as pieces where gap < interval '240 milliseconds' and next is not null";
    assert_eq!(world.env.sql::<i64>(short).await, 0);
    assert!(
        world
            .env
            .sql::<i64>("select count(*) from task_output")
            .await
            > 3
    );

    // Whoever comes later gets the same, at once.
    let later = world.follow(&id, "").await.rest().await;
    assert_eq!(names(&later), ["output", "end"]);
    assert_eq!(text(&later, 1), text(&events, 1));
    assert_eq!(&later.last().unwrap().data, end);
    world.finish().await;
}

#[tokio::test]
async fn a_stream_goes_on_at_another_replica_with_nothing_lost_and_nothing_twice() {
    let world = World::new("streams_resume").await;
    let (other, other_url, stop) = world.replica();
    let id = world.accept(&stream(40, 50, &json!({"failures": 1}))).await;
    let mut urls = [other_url.as_str(), ""].into_iter().cycle();
    let (mut events, mut last) = (Vec::<Event>::new(), String::new());
    loop {
        // Every event over a connection of its own.
        let mut stream = match urls.next().unwrap() {
            "" => world.follow(&id, &last).await,
            url => world.follow_at(url, &id, &last).await,
        };
        let event = stream.next().await.unwrap();
        last.clone_from(&event.id);
        let is_end = event.name == "end";
        events.push(event);
        if is_end {
            break;
        }
    }
    let mut ids: Vec<_> = events.iter().map(|event| &event.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), events.len(), "an event came twice: {events:#?}");
    for attempt in [1, 2] {
        assert_eq!(
            lines(&text(&events, attempt)),
            (1..=40).collect::<Vec<_>>(),
            "{events:#?}"
        );
    }
    assert_eq!(events.last().unwrap().data["status"], "COMPLETED");
    stop.cancel();
    other.wait().await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn another_attempt_begins_anew_and_says_so() {
    let world = World::new("streams_retry").await;
    let id = world.accept(&stream(5, 100, &json!({"failures": 1}))).await;
    let events = world.follow(&id, "").await.rest().await;
    let restart = events
        .iter()
        .position(|event| event.name == "restart")
        .unwrap();
    assert_eq!(events[restart].data, json!({"attempt": 2}));
    let (first, second) = events.split_at(restart);
    assert_eq!(lines(&text(first, 1)), [1, 2, 3, 4, 5]);
    assert_eq!(lines(&text(second, 2)), [1, 2, 3, 4, 5]);
    assert!(text(first, 2).is_empty() && text(second, 1).is_empty());
    // How the attempt ended is told after its output.
    let retrying = first
        .iter()
        .position(|event| event.data["status"] == "RETRYING")
        .unwrap();
    assert!(first[retrying..].iter().all(|event| event.name == "state"));
    assert_eq!(first[retrying].data["error"]["code"], "unlucky");
    assert!(first[retrying].data["next_attempt_at"].is_string());
    let later = world.follow(&id, "").await.rest().await;
    assert_eq!(names(&later), ["output", "restart", "output", "end"]);

    let timeline = world.get(&format!("/tasks/{id}/timeline")).await;
    let told: Vec<_> = timeline["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| (event["event"].as_str().unwrap(), event["attempt"].as_i64()))
        .collect();
    assert_eq!(
        told,
        [
            ("accepted", None),
            ("published", Some(1)),
            ("started", Some(1)),
            ("output", Some(1)),
            ("failed", Some(1)),
            ("published", Some(2)),
            ("started", Some(2)),
            ("output", Some(2)),
            ("finished", None)
        ],
        "{timeline}"
    );
    let output = &timeline["events"][3];
    assert_eq!(output["bytes"], text(first, 1).len());
    assert_eq!(output["truncated"], false);
    let published = &timeline["events"][5];
    assert_eq!(published["confirmed"], true);
    assert_eq!(published["at"], Value::Null);
    assert_eq!(published["after"], timeline["events"][4]["at"]);
    assert_eq!(published["before"], timeline["events"][6]["at"]);
    world.finish().await;
}

#[tokio::test]
async fn the_end_of_a_stream_is_never_ahead_of_its_output() {
    let mut world = World::without_mailer("streams_quick", &[]).await;
    let mut streams = Vec::new();
    for chunks in 1..=60 {
        let id = world.accept(&stream(chunks, 0, &json!({}))).await;
        streams.push((chunks, world.follow(&id, "").await, id));
    }
    world.start_mailer();
    for (chunks, mut events, id) in streams {
        let events = events.rest().await;
        assert_eq!(events.last().unwrap().name, "end");
        assert_eq!(lines(&text(&events, 1)), (1..=chunks).collect::<Vec<_>>());
        assert_eq!(events.last().unwrap().data["id"], id);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_cancelled_task_ends_its_stream() {
    let world = World::new("streams_cancel").await;
    let id = world.accept(&stream(10_000, 20, &json!({}))).await;
    let mut events = world.follow(&id, "").await;
    let mut seen = vec![events.find("output").await];
    let path = format!("/tasks/{id}/cancel");
    assert_eq!(world.post(&path, &json!({})).await.0, 202);
    seen.extend(events.rest().await);
    assert_eq!(seen.last().unwrap().data["status"], "CANCELLED");
    let lines = lines(&text(&seen, 1));
    assert!((2..10_000).contains(&lines.len()));
    assert!(lines.iter().zip(1..).all(|(line, number)| *line == number));
    world.finish().await;
}

#[tokio::test]
async fn output_beyond_its_limit_is_cut() {
    let limit = [("output.max_bytes", "500")];
    let mut world = World::without_mailer("streams_limit", &limit).await;
    world.start_mailer();
    let id = world.accept(&stream(4, 300, &json!({"size": 200}))).await;
    let events = world.follow(&id, "").await.rest().await;
    assert_eq!(text(&events, 1).len(), 500);
    let truncated: Vec<_> = events
        .iter()
        .filter(|event| event.data["truncated"] == true)
        .map(|event| event.name.as_str())
        .collect();
    assert_eq!(truncated, ["output"]);
    assert_eq!(events.last().unwrap().data["result"]["bytes"], 800);

    // Of the attempts before, as much as fits.
    let id = world
        .accept(&stream(1, 0, &json!({"size": 300, "failures": 2})))
        .await;
    world.wait_for(&id, "COMPLETED").await;
    let events = world.follow(&id, "").await.rest().await;
    let sizes = [1, 2, 3].map(|attempt| text(&events, attempt).len());
    assert_eq!(sizes, [0, 300, 300]);
    world.finish().await;
}

/// A worker that was thought dead, and goes on.
#[tokio::test]
async fn an_attempt_that_is_somebody_elses_by_now_puts_nothing_out() {
    let world = World::new("streams_fence").await;
    let id = world.accept(&stream(200, 10, &json!({}))).await;
    let written = "select count(*) from task_output where attempt = 1";
    world
        .env
        .wait_until(LONG, "output", async || {
            world.env.sql::<i64>(written).await > 1
        })
        .await;
    world
        .env
        .execute(&format!(
            "update tasks set attempt = 2, worker_id = gen_random_uuid() where id = '{id}'"
        ))
        .await;
    let then = world.env.sql::<i64>(written).await;
    // Acknowledged once its outcome has been refused.
    world.wait_until_queues_are_empty().await;
    assert_eq!(world.env.sql::<i64>(written).await, then);
    world.finish().await;
}

/// A stopping worker gives back what it runs; what was put out stays.
#[tokio::test]
async fn a_stream_lives_through_the_stop_of_its_worker() {
    let mut world =
        World::without_mailer("streams_stop", &[("service.shutdown_grace_s", "1")]).await;
    let id = world.accept(&stream(40, 100, &json!({}))).await;
    let mut events = world.follow(&id, "").await;
    world.start_mailer();
    let mut seen = vec![events.find("output").await];
    world.stop_mailer().await;
    world.start_mailer();
    seen.extend(events.rest().await);
    let first = lines(&text(&seen, 1));
    assert!((1..40).contains(&first.len()), "{first:?}");
    assert!(first.iter().zip(1..).all(|(line, number)| *line == number));
    assert_eq!(lines(&text(&seen, 2)), (1..=40).collect::<Vec<_>>());
    assert_eq!(seen.last().unwrap().data["status"], "COMPLETED");
    world.finish().await;
}
