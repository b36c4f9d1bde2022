//! The dialogue against a scripted relay; TLS, AUTH and load are in `tests/it/smtp.rs`.

mod entry;
mod loss;
mod point;
mod pooling;
mod refusals;
mod script;

use self::script::{
    Relay,
    Step::{self, Greet, Hear, HearEnd, HearMail, Reset, Say, SayBytes, Take},
};
use super::{
    settings::{Settings, Timeouts, Tls},
    *,
};
use crate::permit::Always;
use lettre::transport::smtp::{authentication::Credentials, extension::ClientId};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(400);

fn settings(relay: &Relay) -> Settings {
    Settings {
        name: "test".into(),
        host: relay.address.ip().to_string(),
        port: relay.address.port(),
        tls: Tls::None,
        credentials: None,
        helo: ClientId::Domain("client.example".into()),
        weight: 1,
        connections: 1,
        max_mails: 100,
        max_idle: LONG,
        connections_total: 0,
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
        return_path: None,
        pace: None,
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
    send_if(sender, mail, &Always::default()).await
}

async fn send_if(
    sender: &Sender,
    mail: &EmailSend,
    permit: &dyn Permit,
) -> Result<EmailSent, SendError> {
    let outgoing = Outgoing {
        task_id: TaskId::now(),
        mail,
        files: &[],
        not_before: None,
        permit,
    };
    sender.send(&outgoing, Instant::now() + LONG).await
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
async fn a_running_mail_takes_little_memory() {
    let relay = Relay::start(vec![]).await;
    let (sender, mail) = (sender(settings(&relay)), mail());
    let size = size_of_val(&send(&sender, &mail));
    assert!(size < 8 * 1024, "{size}");
}
