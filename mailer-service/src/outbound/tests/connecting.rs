//! Where connections go, and which are kept.

use super::*;
use testkit::endpoint::Reply;

#[tokio::test]
async fn the_judged_address_is_the_one_connected_to() {
    let endpoint = Endpoint::start().await.unwrap();
    // Asked again, the name would say something harmless, and before that something that nobody answers at.
    let names = Names::leading_to(&[&["10.9.9.9", "127.0.0.1"], &["93.184.215.14"]]);
    let client = client_with(&[("outbound.allow", "127.0.0.1")], &names);
    let at = url(&endpoint.url_at("hooks.example", "/a?b=c#d"));
    let answer = made_to(&client, &at, Method::POST).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body), (200, b"ok".to_vec()));
    assert_eq!(names.asked(), ["hooks.example"]);
    let request = endpoint.requests().remove(0);
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("POST", "/a?b=c")
    );
    let host = format!("hooks.example:{}", endpoint.address().port());
    assert_eq!(request.header("host"), Some(host.as_str()));
    assert_eq!(request.header("accept-encoding"), Some("identity"));
    assert_eq!(request.body, b"{\"a\": 1}");
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_each_time_it_is_asked() {
    let endpoint = Endpoint::start().await.unwrap();
    let at = url(&endpoint.url_at("rebind.example", "/"));
    // First where it may be called, then somewhere else.
    let names = Names::leading_to(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let settings = [("outbound.allow", "127.0.0.1"), ("outbound.max_idle", "0")];
    let client = client_with(&settings, &names);
    assert!(made_to(&client, &at, Method::POST).await.is_ok());
    let refused = made_to(&client, &at, Method::POST).await;
    assert_eq!(ending(refused), ("http_address_refused", Class::Fail));
    for address in [
        "::1",
        "169.254.169.254",
        "::ffff:10.0.0.1",
        "fd00::1",
        "0.0.0.0",
        "100.64.0.1",
    ] {
        let client = client_with(&settings, &Names::leading_to(&[&[address]]));
        let refused = made_to(&client, &at, Method::POST).await;
        assert_eq!(
            ending(refused),
            ("http_address_refused", Class::Fail),
            "{address}"
        );
    }
    assert_eq!(endpoint.connections(), 1);
}

#[tokio::test]
async fn literal_addresses_go_through_the_same_gate() {
    let endpoint = Endpoint::start().await.unwrap();
    let client = client_with(&[], &Names::default());
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "0",
        "169.254.169.254",
    ] {
        let refused = made_to(
            &client,
            &url(&endpoint.url_at(host, "/?secret=1")),
            Method::GET,
        )
        .await;
        let error = refused.unwrap_err();
        assert_eq!(
            (error.code, error.class),
            ("http_address_refused", Class::Fail),
            "{host}"
        );
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    assert_eq!(endpoint.connections(), 0);
}

#[tokio::test]
async fn names_without_an_answer_are_asked_again_later() {
    let at = url("https://nowhere.example/");
    let client = client_with(&[], &Names::default());
    assert_eq!(
        ending(made_to(&client, &at, Method::POST).await),
        ("http_dns", Class::Retry)
    );
    let client = client_with(&[], &Names::leading_to(&[&[]]));
    assert_eq!(
        ending(made_to(&client, &at, Method::POST).await),
        ("http_dns", Class::Retry)
    );
}

#[tokio::test]
async fn a_closed_port_is_tried_again_later() {
    let endpoint = Endpoint::start().await.unwrap();
    let at = url(&endpoint.url("/"));
    drop(endpoint);
    let client = client();
    // The port is free as soon as the endpoint's task has ended.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match made_to(&client, &at, Method::POST).await {
            Err(error) if error.code == "http_connect" => {
                assert_eq!(error.class, Class::Retry);
                break;
            }
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn certificates_must_be_trusted_and_fit_the_name() {
    let endpoint = Endpoint::start_tls().await.unwrap();
    let file = std::env::temp_dir().join(format!("warren-outbound-{}.pem", std::process::id()));
    std::fs::write(&file, endpoint.ca_pem().unwrap()).unwrap();
    let names = Names::leading_to(&[&["127.0.0.1"]]);
    let trusting = [
        ("outbound.allow", "127.0.0.1"),
        ("outbound.ca_file", file.to_str().unwrap()),
    ];
    let client = client_with(&trusting, &names);
    for host in ["localhost", "127.0.0.1"] {
        let answer = made_to(&client, &url(&endpoint.url_at(host, "/")), Method::POST).await;
        assert_eq!(answer.unwrap().status, 200, "{host}");
    }
    let other = made_to(
        &client,
        &url(&endpoint.url_at("other.example", "/")),
        Method::POST,
    )
    .await;
    assert_eq!(ending(other), ("http_tls", Class::Retry));
    let client = client_with(&trusting[..1], &names);
    let untrusted = made_to(&client, &url(&endpoint.url("/")), Method::POST)
        .await
        .unwrap_err();
    assert_eq!(untrusted.code, "http_tls");
    assert!(untrusted.text.contains("certificate"), "{untrusted}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(endpoint.requests().len(), 2);
}

#[tokio::test]
async fn connections_are_kept_for_a_while() {
    let endpoint = Endpoint::start().await.unwrap();
    let at = url(&endpoint.url("/"));
    let client = client();
    for _ in 0..3 {
        made_to(&client, &at, Method::POST).await.unwrap();
    }
    assert_eq!(endpoint.connections(), 1);
    assert_eq!(client.pool.len(), 1);
    client.close();
    made_to(&client, &at, Method::POST).await.unwrap();
    assert_eq!(endpoint.connections(), 2);
    let client = client_with(
        &[("outbound.allow", "127.0.0.1"), ("outbound.max_idle", "0")],
        &Names::default(),
    );
    made_to(&client, &at, Method::POST).await.unwrap();
    assert_eq!(client.pool.len(), 0);
}

#[tokio::test]
async fn the_latest_connections_are_the_ones_that_are_kept() {
    let (one, other) = (
        Endpoint::start().await.unwrap(),
        Endpoint::start().await.unwrap(),
    );
    let settings = [("outbound.allow", "127.0.0.1"), ("outbound.max_idle", "1")];
    let client = client_with(&settings, &Names::default());
    for at in [&one, &other, &other, &one] {
        made_to(&client, &url(&at.url("/")), Method::POST)
            .await
            .unwrap();
        assert_eq!(client.pool.len(), 1);
    }
    assert_eq!((one.connections(), other.connections()), (2, 1));
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let endpoint = Endpoint::start().await.unwrap();
    let settings = [
        ("outbound.allow", "127.0.0.1"),
        ("outbound.max_idle_s", "1"),
    ];
    let client = client_with(&settings, &Names::default());
    made_to(&client, &url(&endpoint.url("/")), Method::POST)
        .await
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while client.pool.len() > 0 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_costs_nothing() {
    let endpoint = Endpoint::start().await.unwrap();
    let at = url(&endpoint.url("/"));
    let client = client();
    for _ in 0..20 {
        endpoint.reply([Reply::AnswerAndClose(200)]);
        made_to(&client, &at, Method::GET).await.unwrap();
    }
    assert_eq!(endpoint.requests().len(), 20);
}
