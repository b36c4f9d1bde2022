//! The dialogue against a scripted relay; TLS, AUTH and load are in `tests/it/smtp.rs`.

mod pooling;
mod script;

use self::script::{
    Relay,
    Step::{self, Greet, Hear, HearEnd, HearMail, Reset, Say, SayBytes, Take},
};
use super::{
    settings::{Settings, Timeouts, Tls},
    *,
};
use lettre::transport::smtp::{authentication::Credentials, extension::ClientId};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

fn settings(relay: &Relay) -> Settings {
    Settings {
        name: "test".into(),
        host: relay.address.ip().to_string(),
        port: relay.address.port(),
        tls: Tls::None,
        credentials: None,
        helo: ClientId::Domain("client.example".into()),
        connections: 1,
        max_mails: 100,
        max_idle: LONG,
        timeouts: Timeouts {
            connect: LONG,
            command: LONG,
            data: LONG,
        },
    }
}

fn sender(settings: Settings) -> Sender {
    Sender {
        relays: vec![Pool::new(settings)],
        options: BuildOptions::default(),
    }
}

fn mail() -> EmailSend {
    mail_to("ada@example.com")
}

fn mail_to(to: &str) -> EmailSend {
    serde_json::from_value(serde_json::json!({
        "recipient": to, "to": to, "from": "Shop <shop@example.com>", "subject": "Hi", "text": ".\nHello",
    }))
    .unwrap()
}

async fn send(sender: &Sender, mail: &EmailSend) -> Result<EmailSent, SendError> {
    sender
        .send(
            &Outgoing {
                task_id: TaskId::now(),
                mail,
            },
            Instant::now() + LONG,
        )
        .await
}

/// Sends one mail to a relay with that script.
async fn outcome(script: &[Step]) -> Result<EmailSent, SendError> {
    outcome_with(script, |_| {}, &mail()).await
}

async fn outcome_with(
    script: &[Step],
    change: impl FnOnce(&mut Settings),
    mail: &EmailSend,
) -> Result<EmailSent, SendError> {
    let relay = Relay::start(vec![script.to_vec()]).await;
    let mut settings = settings(&relay);
    change(&mut settings);
    let sender = sender(settings);
    let outcome = send(&sender, mail).await;
    drop(sender);
    relay.heard().await;
    outcome
}

fn class_and_code(outcome: Result<EmailSent, SendError>) -> (Class, &'static str) {
    let error = outcome.unwrap_err();
    assert!(
        !format!("{error:?}").contains("ada@example.com"),
        "{error:?}"
    );
    (error.class, error.code)
}

#[tokio::test]
async fn a_mail_is_handed_over() {
    let relay = Relay::start(vec![vec![
        Greet(&["SIZE 1000", "SMTPUTF8", "8BITMIME"]),
        Take,
    ]])
    .await;
    let sender = sender(settings(&relay));
    let sent = send(&sender, &mail()).await.unwrap();
    assert_eq!(
        (sent.relay.as_str(), sent.reply.as_str()),
        ("test", "250 2.0.0 taken")
    );
    assert!(sent.message_id.ends_with("@example.com"));
    let heard = relay.heard().await;
    assert_eq!(heard[0], "EHLO client.example");
    assert!(
        heard[1].starts_with("MAIL FROM:<shop@example.com> SIZE="),
        "{}",
        heard[1]
    );
    assert!(!heard[1].contains("SMTPUTF8"));
    assert_eq!(heard[2], "RCPT TO:<ada@example.com>");
    assert_eq!(heard[heard.len() - 4..], ["", "..", "Hello", "."]);
}

#[tokio::test]
async fn pipelining_saves_round_trips() {
    let script = [
        Greet(&["PIPELINING"]),
        Hear("MAIL"),
        Hear("RCPT"),
        Hear("DATA"),
        SayBytes(b"250 ok\r\n250 ok\r\n354 go\r\n"),
        HearMail,
        Say("250 taken"),
        HearEnd,
    ];
    assert_eq!(outcome(&script).await.unwrap().reply, "250 taken");
}

#[tokio::test]
async fn a_pipelined_refusal_is_the_first_one() {
    let group = [
        Greet(&["PIPELINING"]),
        Hear("MAIL"),
        Hear("RCPT"),
        Hear("DATA"),
    ];
    let refused =
        SayBytes(b"250 ok\r\n550 5.1.1 <ada@example.com> unknown\r\n554 no recipients\r\n");
    let script = [&group[..], &[refused, Hear("RSET"), Say("250 ok"), HearEnd]].concat();
    let error = outcome(&script).await.unwrap_err();
    assert_eq!(
        (error.class, error.code, error.smtp_code),
        (Class::Fail, "smtp_permanent", Some(550))
    );
    assert_eq!(
        (error.enhanced.as_deref(), error.text.as_str()),
        (Some("5.1.1"), "5.1.1 <a***@e***> unknown")
    );
    // RFC 2920, 3.1: DATA may be accepted nevertheless; the connection is given up.
    let script = [
        &group[..],
        &[SayBytes(b"250 ok\r\n450 later\r\n354 go\r\n"), HearEnd],
    ]
    .concat();
    assert_eq!(
        class_and_code(outcome(&script).await),
        (Class::Retry, "smtp_temporary")
    );
}

#[tokio::test]
async fn refusals_have_their_class() {
    let upto =
        |commands: &[Step], reply: &'static str| [&[Greet(&[])], commands, &[Say(reply)]].concat();
    let mail: &[Step] = &[Hear("MAIL")];
    let rcpt: &[Step] = &[Hear("MAIL"), Say("250 ok"), Hear("RCPT")];
    let data: &[Step] = &[
        Hear("MAIL"),
        Say("250 ok"),
        Hear("RCPT"),
        Say("250 ok"),
        Hear("DATA"),
    ];
    let body: &[Step] = &[
        Hear("MAIL"),
        Say("250 ok"),
        Hear("RCPT"),
        Say("250 ok"),
        Hear("DATA"),
        Say("354 go"),
        HearMail,
    ];
    for (script, class, code) in [
        (
            vec![Say("554 no service")],
            Class::Retry,
            "smtp_relay_refused",
        ),
        (vec![Say("421 busy")], Class::Retry, "smtp_421"),
        (
            vec![SayBytes(b"HTTP/1.1 400 Bad Request\r\n\r\n")],
            Class::Retry,
            "smtp_protocol_error",
        ),
        (vec![], Class::Retry, "smtp_connect_failed"),
        (
            vec![Say("220 x"), Hear("EHLO"), Say("502 what")],
            Class::Retry,
            "smtp_relay_refused",
        ),
        (
            upto(mail, "451 4.3.0 later"),
            Class::Retry,
            "smtp_temporary",
        ),
        (upto(mail, "250"), Class::Retry, "smtp_protocol_error"),
        (
            upto(rcpt, "450 4.2.0 greylisted"),
            Class::RetryAfter(Duration::from_secs(300)),
            "smtp_greylisted",
        ),
        (
            upto(rcpt, "550 5.1.1 unknown"),
            Class::Fail,
            "smtp_permanent",
        ),
        (upto(rcpt, "571 denied"), Class::Fail, "smtp_permanent"),
        (upto(rcpt, "354 what"), Class::Retry, "smtp_protocol_error"),
        (upto(rcpt, "421 bye"), Class::Retry, "smtp_421"),
        (upto(data, "554 5.7.1 no"), Class::Fail, "smtp_permanent"),
        (upto(data, "250 what"), Class::Retry, "smtp_protocol_error"),
        (upto(body, "452 4.3.1 full"), Class::Retry, "smtp_temporary"),
        (upto(body, "554 5.7.1 spam"), Class::Fail, "smtp_permanent"),
        (upto(body, "421 4.3.2 closing"), Class::Retry, "smtp_421"),
        (
            upto(body, "what"),
            Class::UnknownOutcome,
            "smtp_outcome_unknown",
        ),
        (
            upto(body, "354 what"),
            Class::UnknownOutcome,
            "smtp_outcome_unknown",
        ),
    ] {
        assert_eq!(
            class_and_code(outcome(&script).await),
            (class, code),
            "{script:?}"
        );
    }
}

#[tokio::test]
async fn a_relay_may_speak_latin_1() {
    let taken = [
        Greet(&[]),
        Hear("MAIL"),
        Say("250 ok"),
        Hear("RCPT"),
        Say("250 ok"),
        Hear("DATA"),
        Say("354 go"),
        HearMail,
        SayBytes(b"250 angenommen f\xfcr sp\xe4ter\r\n"),
    ];
    assert_eq!(
        outcome(&taken).await.unwrap().reply,
        "250 angenommen f?r sp?ter"
    );
}

#[tokio::test]
async fn a_connection_lost_before_the_mail_is_a_plain_retry_and_after_it_an_unknown_outcome() {
    let begun = [
        Greet(&[]),
        Hear("MAIL"),
        Say("250 ok"),
        Hear("RCPT"),
        Say("250 ok"),
    ];
    let lost = (Class::Retry, "smtp_connection_lost");
    assert_eq!(class_and_code(outcome(&begun).await), lost);
    assert_eq!(
        class_and_code(outcome(&[&begun[..], &[Hear("DATA"), Reset]].concat()).await),
        lost
    );
    let mailed = [&begun[..], &[Hear("DATA"), Say("354 go"), HearMail]].concat();
    let unknown = (Class::UnknownOutcome, "smtp_outcome_unknown");
    assert_eq!(class_and_code(outcome(&mailed).await), unknown);
    assert_eq!(
        class_and_code(outcome(&[&mailed[..], &[Reset]].concat()).await),
        unknown
    );
    assert_eq!(
        class_and_code(outcome(&[&mailed[..], &[SayBytes(b"250-so")]].concat()).await),
        unknown
    );
}

#[tokio::test]
async fn a_large_mail_cut_off_on_its_way_was_not_taken() {
    let mut large = mail();
    large.text = Some("x".repeat(30_000_000));
    let script = [
        Greet(&[]),
        Hear("MAIL"),
        Say("250 ok"),
        Hear("RCPT"),
        Say("250 ok"),
        Hear("DATA"),
        Say("354 go"),
        Hear("Date"),
        Reset,
    ];
    assert_eq!(
        class_and_code(outcome_with(&script, |_| {}, &large).await),
        (Class::Retry, "smtp_connection_lost")
    );
}

#[tokio::test]
async fn silence_is_bounded_in_every_phase() {
    let timeout = (Class::Retry, "smtp_timeout");
    let connect = |settings: &mut Settings| settings.timeouts.connect = SHORT;
    assert_eq!(
        class_and_code(outcome_with(&[HearEnd], connect, &mail()).await),
        timeout
    );
    let command = |settings: &mut Settings| settings.timeouts.command = SHORT;
    let commands = [
        Greet(&[]),
        Hear("MAIL"),
        Say("250 ok"),
        Hear("RCPT"),
        HearEnd,
    ];
    assert_eq!(
        class_and_code(outcome_with(&commands, command, &mail()).await),
        timeout
    );
    let data = |settings: &mut Settings| settings.timeouts.data = SHORT;
    let mailed = [
        Greet(&[]),
        Hear("MAIL"),
        Say("250 ok"),
        Hear("RCPT"),
        Say("250 ok"),
        Hear("DATA"),
        Say("354 go"),
        HearMail,
        HearEnd,
    ];
    assert_eq!(
        class_and_code(outcome_with(&mailed, data, &mail()).await),
        (Class::UnknownOutcome, "smtp_outcome_unknown")
    );
}

#[tokio::test]
async fn the_deadline_ends_any_phase() {
    let relay = Relay::start(vec![vec![Greet(&[]), Hear("MAIL"), HearEnd]]).await;
    let sender = sender(settings(&relay));
    let mail = mail();
    let outcome = sender
        .send(
            &Outgoing {
                task_id: TaskId::now(),
                mail: &mail,
            },
            Instant::now() + SHORT,
        )
        .await;
    assert_eq!(class_and_code(outcome), (Class::Retry, "smtp_timeout"));
    relay.heard().await;
}

#[tokio::test]
async fn what_a_relay_can_not_take_is_not_sent_to_it() {
    let unsent = [Greet(&["SIZE 100"]), HearEnd];
    assert_eq!(
        class_and_code(outcome(&unsent).await),
        (Class::Fail, "smtp_message_too_large")
    );
    let jorg = mail_to("jörg@example.com");
    let unsent = [Greet(&["8BITMIME"]), HearEnd];
    assert_eq!(
        class_and_code(outcome_with(&unsent, |_| {}, &jorg).await),
        (Class::Fail, "smtp_smtputf8_unsupported")
    );
    let relay = Relay::start(vec![vec![Greet(&["SMTPUTF8", "8BITMIME"]), Take]]).await;
    send(&sender(settings(&relay)), &jorg).await.unwrap();
    assert_eq!(
        relay.heard().await[1],
        "MAIL FROM:<shop@example.com> SMTPUTF8 BODY=8BITMIME"
    );
}

#[tokio::test]
async fn a_mail_that_can_not_be_built_fails_alone() {
    let relay = Relay::start(vec![]).await;
    let mut mail = mail();
    mail.to[0].name = Some("A\r\nBcc: b@example.com".into());
    assert_eq!(
        class_and_code(send(&sender(settings(&relay)), &mail).await),
        (Class::Fail, "mail_not_buildable")
    );
}

#[tokio::test]
async fn passwords_are_offered_by_plain_or_login() {
    let with_password = |settings: &mut Settings| {
        settings.credentials = Some(Credentials::new("ann".into(), "pw".into()))
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
