//! What is said of calls that go wrong.

use super::*;
use testkit::endpoint::Reply;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn after_the_request_has_left_only_harmless_ones_are_simply_repeated() {
    let endpoint = Endpoint::start().await.unwrap();
    let at = url(&endpoint.url("/"));
    let client = client();
    for (reply, code) in [
        (Reply::Raw(Vec::new()), "http_connection_lost"),
        (
            Reply::Raw(b"HTTP/1.1 200 X\r\ncontent-le".to_vec()),
            "http_connection_lost",
        ),
        (
            Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()),
            "http_protocol_error",
        ),
        (Reply::Silence, "http_timeout"),
    ] {
        for (method, expected) in [
            (Method::GET, (code, Class::Retry)),
            (
                Method::POST,
                ("http_outcome_unknown", Class::UnknownOutcome),
            ),
        ] {
            endpoint.reply([reply.clone()]);
            let mut asked = call(&at, method);
            if reply == Reply::Silence {
                asked.timeout = Duration::from_millis(300);
            }
            assert_eq!(ending(made(&client, &asked).await), expected, "{reply:?}");
        }
    }
}

#[tokio::test]
async fn a_long_answer_is_cut() {
    let endpoint = Endpoint::start().await.unwrap();
    let settings = [
        ("outbound.allow", "127.0.0.1"),
        ("outbound.max_response_bytes", "1000"),
    ];
    let client = client_with(&settings, &Names::default());
    let at = url(&endpoint.url("/"));
    for (reply, length, how) in [
        (Reply::body("x".repeat(999)), 999, Ending::Whole),
        (Reply::body("x".repeat(1000)), 1000, Ending::Whole),
        (Reply::body("x".repeat(1001)), 1000, Ending::TooLong),
        (Reply::Endless, 1000, Ending::TooLong),
        (
            Reply::Raw(b"HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\nabc".to_vec()),
            3,
            Ending::Broken,
        ),
        // Chunked.
        (
            Reply::Raw(
                b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                    .to_vec(),
            ),
            3,
            Ending::Whole,
        ),
    ] {
        endpoint.reply([reply]);
        let answer = made_to(&client, &at, Method::POST).await.unwrap();
        assert_eq!((answer.body.len(), answer.ending), (length, how));
    }
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let endpoint = Endpoint::start().await.unwrap();
    let mut head = b"HTTP/1.1 200 X\r\n".to_vec();
    for i in 0..5000 {
        head.extend(format!("x-{i}: {}\r\n", "y".repeat(100)).bytes());
    }
    endpoint.reply([Reply::Raw(head)]);
    let lost = made_to(&client(), &url(&endpoint.url("/")), Method::GET).await;
    assert_eq!(ending(lost), ("http_protocol_error", Class::Retry));
}

#[tokio::test]
async fn a_call_whose_right_ended_is_not_made() {
    struct Ended(CancellationToken);
    impl Permit for Ended {
        fn is_held(&self) -> bool {
            false
        }
        fn withdrawn(&self) -> &CancellationToken {
            &self.0
        }
    }
    let endpoint = Endpoint::start().await.unwrap();
    let at = url(&endpoint.url("/"));
    let deadline = Instant::now() + Duration::from_secs(60);
    let client = client();
    let permit = Ended(CancellationToken::new());
    let outcome = client
        .call(&call(&at, Method::POST), &permit, deadline)
        .await;
    assert_eq!(ending(outcome), ("http_not_begun", Class::NotBegun));
    permit.0.cancel();
    let outcome = client
        .call(&call(&at, Method::POST), &permit, deadline)
        .await;
    assert_eq!(ending(outcome), ("http_not_begun", Class::NotBegun));
    assert!(endpoint.requests().is_empty());
}

#[tokio::test]
async fn a_cancelled_call_on_the_wire_ends_if_a_repeat_is_harmless() {
    struct Withdrawn(CancellationToken);
    impl Permit for Withdrawn {
        fn is_held(&self) -> bool {
            !self.0.is_cancelled()
        }
        fn withdrawn(&self) -> &CancellationToken {
            &self.0
        }
    }
    let endpoint = Endpoint::start().await.unwrap();
    let at = url(&endpoint.url("/"));
    let client = client();
    for (method, expected) in [
        (Method::GET, ("http_not_begun", Class::NotBegun)),
        // It goes on to its own time limit.
        (
            Method::POST,
            ("http_outcome_unknown", Class::UnknownOutcome),
        ),
    ] {
        endpoint.reply([Reply::Silence]);
        let before = endpoint.requests().len();
        let permit = Withdrawn(CancellationToken::new());
        let mut asked = call(&at, method);
        asked.timeout = Duration::from_secs(2);
        let arrived = async {
            while endpoint.requests().len() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            permit.0.cancel();
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        let (outcome, ()) = tokio::join!(client.call(&asked, &permit, deadline), arrived);
        assert_eq!(ending(outcome), expected);
    }
}

#[tokio::test]
async fn only_so_many_calls_are_under_way() {
    let endpoint = Endpoint::start().await.unwrap();
    endpoint.reply([Reply::Silence]);
    let settings = [("outbound.allow", "127.0.0.1"), ("outbound.max_calls", "1")];
    let client = client_with(&settings, &Names::default());
    let at = url(&endpoint.url("/"));
    let mut first = call(&at, Method::GET);
    first.timeout = Duration::from_secs(1);
    let second = async {
        while endpoint.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let deadline = Instant::now() + Duration::from_millis(100);
        client.call(&first, &Always::default(), deadline).await
    };
    let (first, second) = tokio::join!(made(&client, &first), second);
    assert_eq!(ending(first), ("http_timeout", Class::Retry));
    assert_eq!(ending(second), ("http_busy", Class::Retry));
    assert_eq!(endpoint.requests().len(), 1);
}

#[tokio::test]
async fn a_missing_secret_is_waited_for() {
    let endpoint = Endpoint::start().await.unwrap();
    let at = url(&endpoint.url("/"));
    let mut asked = call(&at, Method::POST);
    asked.signature = Some(Signature {
        secret: "shop",
        id: "x",
    });
    let (code, class) = ending(made(&client(), &asked).await);
    assert_eq!(code, "http_secret_missing");
    assert!(matches!(class, Class::RetryAfter(_)));
    assert!(endpoint.requests().is_empty());
}
