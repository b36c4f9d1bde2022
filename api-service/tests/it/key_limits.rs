//! What keys with limits may use, over several replicas.

use crate::support::{Answer, Api, LONG};
use api_service::{budget::OwnLimits, cli::key, queries::api_keys::NewLimits};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use testkit::harness::wait_until;

/// A key with limits, and its id.
async fn limited(api: &Api, limits: OwnLimits) -> (String, uuid::Uuid) {
    let text = api
        .on_database(move |connection| {
            key::create_limited(
                connection,
                "limited",
                None,
                &api_service::auth::Scope::ALL,
                limits,
            )
            .unwrap()
        })
        .await;
    let hint = &text[..7];
    let id = format!("select id from api_keys where hint = '{hint}'");
    (text, api.env.sql(&id).await)
}

fn rate(per_s: f64, burst: i32) -> OwnLimits {
    OwnLimits {
        rate_per_s: Some(per_s),
        burst: Some(burst),
        daily_quota: None,
    }
}

fn daily(quota: i64) -> OwnLimits {
    OwnLimits {
        daily_quota: Some(quota),
        ..OwnLimits::default()
    }
}

async fn get(api: &Api, url: &str, key: &str) -> Answer {
    let request = api.client.get(format!("{url}/api/v1/tasks?limit=1"));
    Answer::of(request.bearer_auth(key)).await
}

async fn post(api: &Api, url: &str, path: &str, key: &str, body: &Value) -> Answer {
    let request = api.client.post(format!("{url}/api/v1{path}"));
    Answer::of(request.bearer_auth(key).json(body)).await
}

fn noop() -> Value {
    json!({"kind": "demo.noop", "payload": {}})
}

/// The items of a structured-field list of strings with integer parameters; others are left out.
#[track_caller]
fn items(header: &str) -> HashMap<String, HashMap<String, u64>> {
    let item = |item: &str| {
        let mut parts = item.trim().split(';');
        let name = parts.next().unwrap();
        let name = name.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
        let parameters = parts.filter_map(|parameter| {
            let (key, value) = parameter.split_once('=').unwrap();
            Some((key.to_owned(), value.parse().ok()?))
        });
        (name.to_owned(), parameters.collect())
    };
    header.split(", ").map(item).collect()
}

#[track_caller]
fn retry_after(answer: &Answer) -> u64 {
    let seconds = answer.header("retry-after").parse().unwrap();
    assert!(seconds >= 1, "{answer:?}");
    seconds
}

async fn used(api: &Api) -> i64 {
    let used = "select coalesce(sum(tasks), 0) from api_key_usage";
    api.env.sql(used).await
}

#[tokio::test]
async fn the_rate_holds_over_two_replicas() {
    let api = Api::start("limits_rate").await;
    let (replica, stop) = api.replica();
    let urls = [api.url.clone(), format!("http://{}", replica.api_addr)];
    let (per_s, burst) = (20.0, 15);
    let (key, _) = limited(&api, rate(per_s, burst)).await;
    let begin = Instant::now();
    let end = begin + Duration::from_secs(4);
    let callers = (0..12).map(|n| {
        let (api, url, key) = (&api, &urls[n % 2], &key);
        async move {
            let (mut passed, mut refused) = (0_u32, 0_u32);
            while Instant::now() < end {
                let answer = get(api, url, key).await;
                let policy = items(answer.header("ratelimit-policy"));
                assert_eq!(
                    policy["default"],
                    HashMap::from([("q".into(), 15), ("w".into(), 1)])
                );
                let left = items(answer.header("ratelimit"))["default"].clone();
                assert!(left["r"] <= 15 && left["t"] >= 1, "{left:?}");
                if answer.status == 200 {
                    passed += 1;
                } else {
                    assert_eq!(answer.problem(), "rate-limited");
                    assert_eq!((left["r"], left["t"]), (0, retry_after(&answer)));
                    refused += 1;
                    // The other tests want the processors too.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            (passed, refused)
        }
    });
    let counts = join_all(callers).await;
    let seconds = begin.elapsed().as_secs_f64();
    let passed: u32 = counts.iter().map(|(passed, _)| passed).sum();
    let refused: u32 = counts.iter().map(|(_, refused)| refused).sum();
    let allowed = f64::from(burst) + per_s * seconds;
    let passed = f64::from(passed);
    assert!(passed <= allowed + 1.0, "{passed} of {allowed}");
    assert!(passed >= 0.85 * allowed, "{passed} of {allowed}");
    assert!(refused > 0);
    stop.cancel();
    replica.wait().await.unwrap();
    api.finish().await;
}

#[tokio::test]
async fn a_quota_is_exact_under_parallel_requests_to_two_replicas() {
    let api = Api::start("limits_quota").await;
    let (replica, stop) = api.replica();
    let urls = [api.url.clone(), format!("http://{}", replica.api_addr)];
    let (key, _) = limited(&api, daily(60)).await;
    let body = noop();
    let requests = (0..100).map(|n| post(&api, &urls[n % 2], "/tasks", &key, &body));
    let answers = join_all(requests).await;
    let (accepted, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 202);
    assert_eq!(accepted.len(), 60);
    for answer in &refused {
        assert_eq!(answer.problem(), "quota-exhausted");
        let seconds = retry_after(answer);
        let left = &items(answer.header("ratelimit"))["daily"];
        assert!(left["r"] == 0 && seconds >= left["t"] && seconds <= 86_400);
    }
    assert_eq!(api.env.sql::<i64>("select count(*) from tasks").await, 60);
    assert_eq!(used(&api).await, 60);
    // Looking is not accepting.
    assert_eq!(get(&api, &api.url, &key).await.status, 200);
    // The next day.
    api.env
        .execute("update api_key_usage set day = day - 1")
        .await;
    wait_until(LONG, "the next day", async || {
        post(&api, &urls[1], "/tasks", &key, &body).await.status == 202
    })
    .await;
    stop.cancel();
    replica.wait().await.unwrap();
    api.finish().await;
}

#[tokio::test]
async fn a_quota_counts_what_was_stored_and_nothing_else() {
    let api = Api::start("limits_count").await;
    let (key, _) = limited(&api, daily(6)).await;
    let left = |answer: &Answer| items(answer.header("ratelimit"))["daily"]["r"];
    let look = get(&api, &api.url, &key).await;
    assert_eq!(left(&look), 6);
    assert_eq!(
        look.header("ratelimit-policy"),
        "\"daily\";q=6;w=86400;warren-unit=\"tasks\""
    );
    let mail = json!({"to": ["a@example.com", "b@example.com", "c@example.com"], "subject": "s", "text": "t"});
    let answer = post(&api, &api.url, "/emails", &key, &mail).await;
    assert_eq!((answer.status, left(&answer)), (202, 3), "{answer:?}");
    // A mistake costs nothing, and its answer has the headers too.
    let wrong = post(&api, &api.url, "/tasks", &key, &json!({"kind": "x"})).await;
    assert_eq!(
        (wrong.problem().as_str(), left(&wrong)),
        ("unknown-kind", 3)
    );
    let keyed = |body: Value| {
        let request = api.client.post(format!("{}/api/v1/tasks", api.url));
        let request = request.header("idempotency-key", "once").bearer_auth(&key);
        Answer::of(request.json(&body))
    };
    let first = keyed(noop()).await;
    assert_eq!((first.status, left(&first)), (202, 2));
    // A repeat costs nothing, and works when nothing is left.
    let again = keyed(noop()).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(left(&again), 2);
    let reused = keyed(json!({"kind": "demo.noop", "payload": {}, "priority": 1})).await;
    assert_eq!(reused.problem(), "idempotency-key-reused");
    // Three don't fit any more, two do.
    let answer = post(&api, &api.url, "/emails", &key, &mail).await;
    assert_eq!(
        (answer.problem().as_str(), left(&answer)),
        ("quota-exhausted", 2)
    );
    for _ in 0..2 {
        post(&api, &api.url, "/tasks", &key, &noop())
            .await
            .accepted();
    }
    assert_eq!(keyed(noop()).await.header("idempotency-replayed"), "true");
    assert_eq!(
        post(&api, &api.url, "/tasks", &key, &noop())
            .await
            .problem(),
        "quota-exhausted"
    );
    assert_eq!(api.env.sql::<i64>("select count(*) from tasks").await, 6);
    // No day is long enough for seven.
    let to: Vec<String> = (0..7).map(|n| format!("{n}@example.com")).collect();
    let large = json!({"to": to, "subject": "s", "text": "t"});
    let answer = post(&api, &api.url, "/emails", &key, &large).await;
    assert_eq!(answer.problem(), "invalid-fields");
    assert!(answer.text.contains("daily quota has, 6"), "{answer:?}");
    api.finish().await;
}

#[tokio::test]
async fn who_waits_as_told_gets_through() {
    let api = Api::start("limits_wait").await;
    let (key, _) = limited(&api, rate(0.5, 1)).await;
    assert_eq!(get(&api, &api.url, &key).await.status, 200);
    let refused = post(&api, &api.url, "/tasks", &key, &noop()).await;
    assert_eq!(refused.problem(), "rate-limited");
    let policy = &items(refused.header("ratelimit-policy"))["default"];
    assert_eq!((policy["q"], policy["w"]), (1, 2));
    let seconds = retry_after(&refused);
    assert!(seconds <= 2, "{refused:?}");
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let answer = post(&api, &api.url, "/tasks", &key, &noop()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(api.env.sql::<i64>("select count(*) from tasks").await, 1);
    api.finish().await;
}

#[tokio::test]
async fn limits_are_given_changed_and_taken_away() {
    let api = Api::start_with("limits_change", &[("auth.daily_quota", "3")]).await;
    let has = async |key: &str, name: &str| {
        get(&api, &api.url, key)
            .await
            .headers
            .get("ratelimit-policy")
            .is_some_and(|policy| policy.to_str().unwrap().contains(name))
    };
    // As configured; a 0 of its own frees a key.
    assert!(has(&api.key, "\"daily\";q=3").await);
    let (free, id) = limited(&api, daily(0)).await;
    let answer = get(&api, &api.url, &free).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.headers.contains_key("ratelimit-policy"));
    assert!(!answer.headers.contains_key("ratelimit"));
    let change = |limits: NewLimits| {
        api.on_database(move |connection| key::limit(connection, id, limits).unwrap())
    };
    let none = NewLimits::default();
    change(NewLimits {
        rate_per_s: Some(Some(50.0)),
        burst: Some(Some(100)),
        ..none
    })
    .await;
    let changed = Instant::now();
    wait_until(LONG, "the rate to hold", async || {
        has(&free, "\"default\";q=100;w=2").await
    })
    .await;
    assert!(
        changed.elapsed() < Duration::from_secs(3),
        "{:?}",
        changed.elapsed()
    );
    let table = api
        .on_database(|connection| key::list(connection).unwrap())
        .await;
    let line = table
        .lines()
        .find(|line| line.starts_with(&id.to_string()))
        .unwrap();
    let words: Vec<_> = line.split_whitespace().rev().take(5).collect();
    assert_eq!(words, ["limited", "-", "none", "100", "50"], "{table}");
    change(NewLimits {
        daily_quota: Some(None),
        ..none
    })
    .await;
    wait_until(LONG, "the usual quota", async || {
        has(&free, "\"daily\";q=3").await
    })
    .await;
    for _ in 0..3 {
        post(&api, &api.url, "/tasks", &free, &noop())
            .await
            .accepted();
    }
    assert_eq!(
        post(&api, &api.url, "/tasks", &free, &noop())
            .await
            .problem(),
        "quota-exhausted"
    );
    change(NewLimits {
        daily_quota: Some(Some(4)),
        ..none
    })
    .await;
    wait_until(LONG, "one more", async || {
        post(&api, &api.url, "/tasks", &free, &noop()).await.status == 202
    })
    .await;
    change(NewLimits {
        rate_per_s: Some(Some(0.0)),
        daily_quota: Some(Some(0)),
        ..none
    })
    .await;
    wait_until(LONG, "no more limits", async || !has(&free, "").await).await;
    api.noop().await;
    api.finish().await;
}

/// A busy replica has leased ahead; when it ends, the next one finds what was not used.
#[tokio::test]
async fn what_was_leased_and_not_used_comes_back() {
    let api = Api::start("limits_stop").await;
    let (replica, stop) = api.replica();
    let url = format!("http://{}", replica.api_addr);
    let (key, _) = limited(&api, daily(5000)).await;
    let body = noop();
    let accepted = async || api.env.sql::<i64>("select count(*) from tasks").await;
    wait_until(LONG, "some to be leased ahead", async || {
        let requests = (0..20).map(|_| post(&api, &url, "/tasks", &key, &body));
        assert!(
            join_all(requests)
                .await
                .iter()
                .all(|answer| answer.status == 202)
        );
        used(&api).await > accepted().await
    })
    .await;
    stop.cancel();
    replica.wait().await.unwrap();
    assert_eq!(used(&api).await, accepted().await);
    api.finish().await;
}

#[tokio::test]
async fn without_the_database_nobody_is_told_to_slow_down() {
    let settings = [
        ("accept.patience_ms", "300"),
        ("database.pool_timeout_ms", "300"),
        ("database.connect_timeout_s", "2"),
    ];
    let (api, proxy) = Api::start_behind_proxy("limits_no_database", &settings).await;
    let limits = OwnLimits {
        daily_quota: Some(100),
        ..rate(5.0, 5)
    };
    let (key, _) = limited(&api, limits).await;
    post(&api, &api.url, "/tasks", &key, &noop())
        .await
        .accepted();
    proxy.cut().await;
    let body = noop();
    for answer in join_all((0..20).map(|_| post(&api, &api.url, "/tasks", &key, &body))).await {
        assert_eq!(answer.problem(), "database-unavailable");
    }
    proxy.heal().await;
    wait_until(LONG, "the database", async || {
        post(&api, &api.url, "/tasks", &key, &body).await.status == 202
    })
    .await;
    assert!(used(&api).await >= api.env.sql("select count(*) from tasks").await);
    api.finish().await;
}
