use super::*;
use hyper::StatusCode;

fn request(json: &str) -> HttpRequest {
    serde_json::from_str(json).unwrap()
}

fn answer(status: u16, headers: &[(&'static str, &str)], ending: Ending) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: headers
            .iter()
            .map(|(name, text)| (HeaderName::from_static(name), text.parse().unwrap()))
            .collect(),
        body: b"secret body".to_vec(),
        ending,
        redirects: 0,
        has_acted: false,
        took: Duration::from_millis(5),
    }
}

fn judged(json: &str, answer: Answer) -> Result<HttpAnswered, TaskError> {
    judge(&request(json), answer, Duration::from_secs(600))
}

const POST: &str = r#"{"url":"https://example.com/hook?token=secret"}"#;
#[test]
fn what_an_endpoint_answers_after_another_has_acted_is_unclear() {
    for (json, is_unclear) in [(POST, true), (GET, false)] {
        let redirected = Answer {
            has_acted: true,
            ..answer(503, &[], Ending::Whole)
        };
        let error = judged(json, redirected).unwrap_err();
        assert_eq!(
            matches!(error, TaskError::Unclear(_)),
            is_unclear,
            "{error:?}"
        );
    }
}

const GET: &str = r#"{"url":"https://example.com/hook?token=secret","method":"GET"}"#;

#[test]
fn the_status_decides() {
    for (status, expected) in [
        (
            404,
            TaskError::Fail(Failure::new(
                "http_status",
                "example.com: answered 404 Not Found",
            )),
        ),
        (
            503,
            TaskError::Retry(Failure::new(
                "http_status",
                "example.com: answered 503 Service Unavailable",
            )),
        ),
        (
            302,
            TaskError::Fail(Failure::new(
                "http_redirect",
                "example.com: answered 302 Found, a redirect that is not followed (max_redirects)",
            )),
        ),
    ] {
        let headers: &[_] = if status == 302 {
            &[("location", "/secret")]
        } else {
            &[]
        };
        let answer = answer(status, headers, Ending::Whole);
        assert_eq!(judged(POST, answer), Err(expected));
    }
}

#[test]
fn retry_after_is_kept_within_bounds() {
    for (asked, seconds) in [("7", 7), ("100000", 600)] {
        let error =
            judged(POST, answer(429, &[("retry-after", asked)], Ending::Whole)).unwrap_err();
        assert!(
            matches!(error, TaskError::RetryAfter(wait, _) if wait == Duration::from_secs(seconds)),
            "{error:?}"
        );
    }
    // It says nothing of what has failed for good.
    let error = judged(POST, answer(404, &[("retry-after", "7")], Ending::Whole)).unwrap_err();
    assert!(matches!(error, TaskError::Fail(_)));
}

#[test]
fn a_body_that_broke_off_matters_to_those_who_asked_for_it() {
    let done = judged(POST, answer(200, &[], Ending::Broken)).unwrap();
    assert!(done.truncated);
    let error = judged(GET, answer(200, &[], Ending::Broken)).unwrap_err();
    assert!(matches!(error, TaskError::Retry(failure) if failure.code == "http_connection_lost"));
}

#[test]
fn few_headers_are_kept() {
    let long = "x".repeat(2000);
    let headers = [
        ("content-type", "text/plain"),
        ("set-cookie", "a=b"),
        ("etag", long.as_str()),
    ];
    let done = judged(POST, answer(200, &headers, Ending::Whole)).unwrap();
    assert_eq!(
        done.headers.into_iter().collect::<Vec<_>>(),
        [("content-type".into(), "text/plain".into())]
    );
}

#[test]
fn bodies_are_text_or_base64() {
    use BodyEncoding::{Base64, Utf8};
    for (body, truncated, text, encoding) in [
        (&b"plain"[..], false, "plain", Utf8),
        ("ä".as_bytes(), false, "ä", Utf8),
        // Cut within a character.
        (b"a\xc3", true, "a", Utf8),
        (b"a\xc3", false, "YcM=", Base64),
        (b"\xff\xfe", true, "//4=", Base64),
        (b"a\0", false, "YQA=", Base64),
    ] {
        assert_eq!(
            text_of(body.to_vec(), truncated),
            (text.to_owned(), encoding),
            "{body:?}"
        );
    }
}

#[test]
fn the_callers_own_idempotency_key_goes_first() {
    let own =
        request(r#"{"url":"https://example.com","headers":{"Idempotency-Key":"mine"},"body":1}"#);
    let made = call(&own, "token").unwrap();
    assert_eq!(made.headers["idempotency-key"], "mine");
    let plain = request(POST);
    let made = call(&plain, "token").unwrap();
    assert_eq!(made.headers["idempotency-key"], "token");
    assert_eq!((made.content_type, made.is_repeatable), (None, false));
}
