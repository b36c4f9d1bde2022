//! Redirects are judged as the first URL is, and secrets stay at home.

use super::*;
use hyper::header::{AUTHORIZATION, COOKIE};
use testkit::endpoint::Reply;

fn to(status: u16, location: &str) -> Reply {
    Reply::status(status).with("location", location)
}

fn following(url: &EndpointUrl) -> Call<'_> {
    let mut asked = call(url, Method::POST);
    asked.max_redirects = 2;
    asked
        .headers
        .insert(AUTHORIZATION, HeaderValue::from_static("Bearer secret"));
    asked
        .headers
        .insert(COOKIE, HeaderValue::from_static("a=secret"));
    asked
        .headers
        .insert("x-api-key", HeaderValue::from_static("secret"));
    asked
}

#[tokio::test]
async fn redirects_to_what_is_not_public_are_refused() {
    let endpoint = Endpoint::start().await.unwrap();
    let at = url(&endpoint.url("/"));
    let names = Names::leading_to(&[&["10.0.0.1"]]);
    let client = client_with(&[("outbound.allow", "127.0.0.1")], &names);
    for location in [
        "http://127.0.0.2/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://2130706434/",
        "http://inside.example:8080/",
    ] {
        endpoint.reply([to(307, location)]);
        let refused = made(&client, &following(&at)).await;
        assert_eq!(
            ending(refused),
            ("http_address_refused", Class::Fail),
            "{location}"
        );
    }
}

#[tokio::test]
async fn nothing_of_the_caller_goes_to_another_origin() {
    let (home, away) = (
        Endpoint::start().await.unwrap(),
        Endpoint::start().await.unwrap(),
    );
    let at = url(&home.url("/first"));
    home.reply([to(307, "/second"), to(307, &away.url("/third"))]);
    let answer = made(&client(), &following(&at)).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.redirects), (200, 2));
    for request in home.requests() {
        assert_eq!(request.header("authorization"), Some("Bearer secret"));
        assert!(
            request
                .header("webhook-signature")
                .unwrap()
                .starts_with("v1,")
        );
    }
    let there = away.requests().remove(0);
    assert_eq!(
        (there.method.as_str(), there.target.as_str()),
        ("POST", "/third")
    );
    assert_eq!(there.body, b"{\"a\": 1}");
    let shown = format!("{there:?}");
    for hidden in ["secret", "webhook-", "cookie", "x-api-key", "task-1"] {
        assert!(!shown.contains(hidden), "{hidden}: {shown}");
    }
}

#[tokio::test]
async fn a_changed_method_takes_no_body_along_and_is_signed_anew() {
    let endpoint = Endpoint::start().await.unwrap();
    let at = url(&endpoint.url("/"));
    endpoint.reply([to(303, "/done")]);
    made(&client(), &following(&at)).await.unwrap();
    let [first, second] = <[_; 2]>::try_from(endpoint.requests()).unwrap();
    assert_eq!((second.method.as_str(), second.body.len()), ("GET", 0));
    assert_eq!(second.header("content-type"), None);
    assert_eq!(second.header("content-length"), None);
    assert_ne!(
        first.header("webhook-signature"),
        second.header("webhook-signature")
    );
}

#[tokio::test]
async fn redirects_end() {
    let endpoint = Endpoint::start().await.unwrap();
    let at = url(&endpoint.url("/"));
    let client = client();
    endpoint.reply([to(302, "/1"), to(302, "/2"), to(302, "/3")]);
    assert_eq!(
        ending(made(&client, &following(&at)).await),
        ("http_redirect", Class::Fail)
    );
    assert_eq!(endpoint.requests().len(), 3);
    // Not asked to follow: it is an answer like any other.
    endpoint.reply([to(302, "/1")]);
    let answer = made_to(&client, &at, Method::POST).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.redirects), (302, 0));
}

#[tokio::test]
async fn what_breaks_after_a_redirect_that_followed_an_act_is_unclear() {
    let endpoint = Endpoint::start().await.unwrap();
    let at = url(&endpoint.url("/"));
    endpoint.reply([to(303, "http://gone.example/")]);
    let names = Names::leading_to(&[]);
    let client = client_with(&[("outbound.allow", "127.0.0.1,gone.example")], &names);
    let lost = made(&client, &following(&at)).await;
    assert_eq!(
        ending(lost),
        ("http_outcome_unknown", Class::UnknownOutcome)
    );
    endpoint.reply([to(303, "/done"), Reply::status(503)]);
    let answer = made(&client, &following(&at)).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.has_acted), (503, true));
    // With 307 the endpoint has done nothing.
    endpoint.reply([to(307, "http://gone.example/")]);
    assert_eq!(
        ending(made(&client, &following(&at)).await),
        ("http_dns", Class::Retry)
    );
}
