//! STARTTLS and AUTH, as far as no real TLS is needed.

use super::*;

#[tokio::test]
async fn passwords_are_offered_by_plain_or_login() {
    let with_password = |settings: &mut Settings| {
        settings.credentials = Some(Credentials::new("ann".into(), "pw".into()));
    };
    let plain = [
        Greet(&["AUTH LOGIN PLAIN"]),
        Hear("AUTH PLAIN AGFubgBwdw=="),
        Say("235 ok"),
        Take,
    ];
    outcome_with(&plain, with_password, &mail()).await.unwrap();
    let login = [
        Greet(&["AUTH LOGIN"]),
        Hear("AUTH LOGIN"),
        Say("334 VXNlcm5hbWU6"),
        Hear("YW5u"),
        Say("334 UGFzc3dvcmQ6"),
        Hear("cHc="),
        Say("235 ok"),
        Take,
    ];
    outcome_with(&login, with_password, &mail()).await.unwrap();
    let wait = Class::RetryAfter(Duration::from_secs(300));
    for script in [
        vec![Greet(&[])],
        vec![Greet(&["AUTH PLAIN"]), Hear("AUTH"), Say("535 5.7.8 no")],
        vec![Greet(&["AUTH LOGIN"]), Hear("AUTH"), Say("334 Pz8=")],
    ] {
        assert_eq!(
            class_and_code(outcome_with(&script, with_password, &mail()).await),
            (wait, "smtp_auth_failed")
        );
    }
}

#[tokio::test]
async fn nobody_is_let_in_by_asking_again_and_again() {
    let relay = Relay::start(vec![vec![
        Greet(&["AUTH PLAIN"]),
        Hear("AUTH"),
        Say("535 5.7.8 no"),
        HearEnd,
    ]])
    .await;
    let mut settings = settings(&relay);
    settings.credentials = Some(Credentials::new("ann".into(), "pw".into()));
    let sender = sender(settings);
    for _ in 0..3 {
        let error = send(&sender, &mail()).await.unwrap_err();
        assert_eq!(
            (error.code, error.smtp_code),
            ("smtp_auth_failed", Some(535))
        );
    }
    relay.heard().await;
}

#[tokio::test]
async fn starttls_is_never_skipped_and_nothing_slips_in_behind_it() {
    let client = || {
        tls::Client::new(
            "localhost",
            concat!(env!("CARGO_MANIFEST_DIR"), "/src/smtp/tests/ca.pem"),
            str::to_owned,
        )
        .unwrap()
    };
    let starttls = |settings: &mut Settings| settings.tls = Tls::Starttls(client());
    let error = outcome_with(&[Greet(&["PIPELINING"]), HearEnd], starttls, &mail())
        .await
        .unwrap_err();
    assert_eq!(
        (error.class, error.code),
        (
            Class::RetryAfter(Duration::from_secs(300)),
            "smtp_tls_failed"
        )
    );
    for injected in [&b"220 go\r\n250 injected\r\n"[..], b"220-a\r\n220 b\r\n"] {
        let script = [
            Greet(&["STARTTLS"]),
            Hear("STARTTLS"),
            SayBytes(injected),
            HearEnd,
        ];
        assert_eq!(
            class_and_code(outcome_with(&script, starttls, &mail()).await),
            (Class::Retry, "smtp_tls_failed")
        );
    }
    let early = [
        Say("220 x"),
        Hear("EHLO"),
        SayBytes(b"250-x\r\n250 STARTTLS\r\n220 early\r\n"),
        HearEnd,
    ];
    assert_eq!(
        class_and_code(outcome_with(&early, starttls, &mail()).await),
        (Class::Retry, "smtp_tls_failed")
    );
    let refused = [
        Greet(&["STARTTLS"]),
        Hear("STARTTLS"),
        Say("454 4.7.0 not now"),
        HearEnd,
    ];
    assert_eq!(
        class_and_code(outcome_with(&refused, starttls, &mail()).await),
        (Class::Retry, "smtp_tls_failed")
    );
}
