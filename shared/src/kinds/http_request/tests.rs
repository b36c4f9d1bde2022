use super::*;
use crate::{config::Config, fields};

fn with_defaults(json: &str, settings: &[(&str, &str)]) -> Result<HttpRequest, Vec<FieldError>> {
    let config = Config::with(settings).unwrap();
    let mut request: HttpRequest = fields::parse(json.as_bytes()).map_err(|error| vec![error])?;
    request.prepare(
        &config
            .accept_defaults(std::sync::Arc::new(crate::template::NothingStored))
            .unwrap(),
    )?;
    Ok(request)
}

fn prepared(json: &str) -> Result<HttpRequest, Vec<FieldError>> {
    with_defaults(json, &[])
}

fn pointers(json: &str) -> Vec<String> {
    let errors = prepared(json).unwrap_err();
    errors.into_iter().map(|error| error.pointer).collect()
}

#[test]
fn the_wire_form_is_frozen() {
    let wire = r#"{"url":"https://example.com/hook?a=1","method":"PUT","headers":{"X-A":"b"},"body":{"b": 1.10,"a":[]},"content_type":"application/x+json","timeout_s":5,"sign":"none","max_redirects":2,"success_on":["2xx",409],"retry_on":[429]}"#;
    let request: HttpRequest = fields::parse(wire.as_bytes()).unwrap();
    assert_eq!(serde_json::to_string(&request).unwrap(), wire);
    let answer = r#"{"status":200,"headers":{"etag":"x"},"body":"ok","body_encoding":"utf8","truncated":false,"signed_by":"default","redirects":0,"duration_ms":7}"#;
    let answered: HttpAnswered = serde_json::from_str(answer).unwrap();
    assert_eq!(serde_json::to_string(&answered).unwrap(), answer);
}

#[test]
fn the_body_is_what_was_given() {
    let request =
        prepared(r#"{"url":"https://example.com","body":{"b": 1.10,  "a":1e2}}"#).unwrap();
    // Byte for byte, since the signature is over the bytes.
    assert_eq!(request.body_bytes(), br#"{"b": 1.10,  "a":1e2}"#);
    assert_eq!(request.body_type(), Some("application/json"));
    assert_eq!(
        (request.method, request.timeout_s),
        (Method::Post, Some(30))
    );
    let request =
        prepared(r#"{"url":"https://example.com","text":"a","content_type":"text/csv"}"#).unwrap();
    assert_eq!(
        (request.body_bytes(), request.body_type()),
        (&b"a"[..], Some("text/csv"))
    );
    let request = prepared(r#"{"url":"https://example.com"}"#).unwrap();
    assert_eq!(
        (request.body_bytes(), request.body_type()),
        (&b""[..], None)
    );
}

#[test]
fn every_bad_field_is_named() {
    assert_eq!(
        pointers(
            r#"{"url":"http://10.0.0.1/","method":"GET","body":1,"text":"","content_type":"json","timeout_s":181,"sign":"x","max_redirects":6,"headers":{"Host":"a","X/Y":"b"}}"#
        ),
        [
            "/url",
            "/text",
            "/body",
            "/content_type",
            "/timeout_s",
            "/max_redirects",
            "/sign",
            "/headers/Host",
            "/headers/X~1Y",
        ]
    );
    for (json, pointer) in [
        (r#"{"url":"ftp://example.com"}"#, "/url"),
        (r#"{"url":"https://ada:pw@example.com"}"#, "/url"),
        (r#"{"url":"http://example.com"}"#, "/url"),
        (r#"{"url":"https://example.com:25"}"#, "/url"),
        (r#"{"url":"https://169.254.169.254/"}"#, "/url"),
        (r#"{"url":"https://[::ffff:127.0.0.1]/"}"#, "/url"),
        (
            r#"{"url":"https://example.com","method":"TRACE"}"#,
            "/method",
        ),
        (
            r#"{"url":"https://example.com","timeout_s":0}"#,
            "/timeout_s",
        ),
        (
            r#"{"url":"https://example.com","content_type":"a/b"}"#,
            "/content_type",
        ),
        (
            r#"{"url":"https://example.com","retry_on":[429,99]}"#,
            "/retry_on/1",
        ),
        (r#"{"url":"https://example.com","bdy":1}"#, "/bdy"),
    ] {
        let errors = prepared(json).unwrap_err();
        assert_eq!(errors[0].pointer, pointer, "{json}: {errors:?}");
        assert!(!errors[0].detail.contains("pw"), "{errors:?}");
    }
    let long = format!(r#"{{"url":"https://example.com/{}"}}"#, "x".repeat(2048));
    assert_eq!(pointers(&long), ["/url"]);
}

#[test]
fn the_default_secret_signs_unless_told_otherwise() {
    let secret = (
        "outbound.secrets.default",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    );
    let signed = |sign: &str, settings: &[(&str, &str)]| {
        let json = format!(r#"{{"url":"https://example.com"{sign}}}"#);
        with_defaults(&json, settings).map(|request| request.signed_by().map(str::to_owned))
    };
    assert_eq!(signed("", &[secret]), Ok(Some("default".into())));
    assert_eq!(signed(r#","sign":"none""#, &[secret]), Ok(None));
    assert_eq!(signed("", &[]), Ok(None));
    assert_eq!(
        signed(r#","sign":"shop""#, &[secret]).unwrap_err()[0].pointer,
        "/sign"
    );
}

#[test]
fn what_a_status_means() {
    let request = prepared(r#"{"url":"https://example.com"}"#).unwrap();
    for (status, meaning) in [
        (200, Meaning::Success),
        (204, Meaning::Success),
        (301, Meaning::Failure),
        (404, Meaning::Failure),
        (408, Meaning::Retry),
        (410, Meaning::Failure),
        (429, Meaning::Retry),
        (500, Meaning::Retry),
        (599, Meaning::Retry),
    ] {
        assert_eq!(request.meaning_of(status), meaning, "{status}");
    }
    let request =
        prepared(r#"{"url":"https://example.com","success_on":["2xx",409],"retry_on":[404,409]}"#)
            .unwrap();
    assert_eq!(request.meaning_of(409), Meaning::Success);
    assert_eq!(request.meaning_of(404), Meaning::Retry);
    assert_eq!(request.meaning_of(500), Meaning::Failure);
}

#[test]
fn the_address_is_judged_by_the_configuration() {
    let json = r#"{"url":"http://10.1.2.3:9000/"}"#;
    assert!(prepared(json).is_err());
    assert!(with_defaults(json, &[("outbound.allow", "10.1.2.3:9000")]).is_ok());
}
