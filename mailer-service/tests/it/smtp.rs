//! The sender against the development inbox: real TLS, real AUTH, many mails at once.

use mailer_service::{
    permit::Always,
    smtp::{Class, Outgoing, SendError, Sender},
};
use shared::{
    config::Config,
    kinds::{EmailSend, EmailSent},
    task::TaskId,
};
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use testkit::inbox::{Action, Auth, FaultRule, Inbox, InboxOptions, Phase};
use tokio::time::Instant;

/// A relay's settings with the inbox's certificate authority in a file that goes with it.
struct Relay {
    overrides: Vec<(String, String)>,
    ca_file: PathBuf,
}

impl Relay {
    fn new(inbox: &Inbox, address: SocketAddr, tls: &str) -> Self {
        let ca_file = std::env::temp_dir().join(format!(
            "warren-ca-{}-{}.pem",
            std::process::id(),
            address.port()
        ));
        std::fs::write(&ca_file, inbox.ca_pem()).unwrap();
        let relay = Self {
            overrides: Vec::new(),
            ca_file,
        };
        let ca_file = relay.ca_file.display().to_string();
        relay
            .with("host", "localhost")
            .with("port", &address.port().to_string())
            .with("tls", tls)
            .with("ca_file", &ca_file)
    }

    fn with(mut self, key: &str, value: &str) -> Self {
        self.overrides
            .push((format!("mail.relays.default.{key}"), value.to_owned()));
        self
    }

    fn sender(&self) -> Sender {
        let overrides: Vec<_> = self
            .overrides
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        Sender::new(&Config::with(&overrides).unwrap()).unwrap()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.ca_file);
    }
}

fn inbox() -> Inbox {
    Inbox::start(InboxOptions::default()).unwrap()
}

fn mail_to(recipient: &str) -> EmailSend {
    serde_json::from_value(serde_json::json!({
        "recipient": recipient, "to": format!("Ada Lovelace <{recipient}>"), "from": "Warren <warren@example.com>",
        "subject": "Grüße", "text": ".\nHello\n..", "html": "<p>Hello</p>",
    }))
    .unwrap()
}

async fn send(sender: &Sender, recipient: &str) -> Result<EmailSent, SendError> {
    let mail = mail_to(recipient);
    sender
        .send(
            &Outgoing {
                task_id: TaskId::now(),
                mail: &mail,
                files: &[],
                not_before: None,
                permit: &Always::default(),
            },
            Instant::now() + Duration::from_secs(20),
        )
        .await
}

#[tokio::test]
async fn starttls_with_a_password() {
    let auth = Auth::Fixed {
        user: "ann".into(),
        password: "secret".into(),
    };
    let inbox = Inbox::start(InboxOptions {
        auth,
        require_auth: true,
        ..InboxOptions::default()
    })
    .unwrap();
    let relay = Relay::new(&inbox, inbox.smtp_addr(), "starttls")
        .with("username", "ann")
        .with("password", "secret");
    let sender = relay.sender();
    let sent = send(&sender, "ada@warren.test").await.unwrap();
    let mail = inbox
        .wait_for_recipient("ada@warren.test", Duration::from_secs(5))
        .await
        .unwrap();
    assert!(mail.client.tls);
    assert_eq!(mail.client.user.as_deref(), Some("ann"));
    assert_eq!(mail.envelope_from, "warren@example.com");
    assert_eq!(mail.envelope_to, ["ada@warren.test"]);
    let parsed = mail.parsed();
    assert_eq!(
        (parsed.subject.as_str(), parsed.message_id.as_str()),
        ("Grüße", sent.message_id.as_str())
    );
    assert_eq!(
        (parsed.text.as_str(), parsed.html.as_str()),
        (".\r\nHello\r\n..", "<p>Hello</p>")
    );
    assert_eq!(parsed.to[0].name, "Ada Lovelace");

    let wrong = Relay::new(&inbox, inbox.smtp_addr(), "starttls")
        .with("username", "ann")
        .with("password", "guess");
    let error = send(&wrong.sender(), "ada@warren.test").await.unwrap_err();
    assert_eq!(
        (error.class, error.code),
        (
            Class::RetryAfter(Duration::from_secs(300)),
            "smtp_auth_failed"
        )
    );
}

#[tokio::test]
async fn implicit_tls() {
    let inbox = inbox();
    let sender = Relay::new(&inbox, inbox.smtps_addr().unwrap(), "implicit").sender();
    for recipient in ["a@warren.test", "b@warren.test"] {
        send(&sender, recipient).await.unwrap();
    }
    assert_eq!((inbox.count(), inbox.connections()), (2, 1));
    assert!(inbox.messages().iter().all(|mail| mail.client.tls));
    sender.close().await;
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_refused() {
    let (inbox, stranger) = (inbox(), inbox());
    for (address, tls) in [
        (inbox.smtp_addr(), "starttls"),
        (inbox.smtps_addr().unwrap(), "implicit"),
    ] {
        let sender = Relay::new(&stranger, address, tls).sender();
        let error = send(&sender, "a@warren.test").await.unwrap_err();
        assert_eq!(
            (error.class, error.code),
            (
                Class::RetryAfter(Duration::from_secs(300)),
                "smtp_tls_failed"
            )
        );
    }
    assert_eq!(inbox.count(), 0);
}

#[tokio::test]
async fn refusals_and_losses_have_their_class() {
    let inbox = inbox();
    let sender = Relay::new(&inbox, inbox.smtp_addr(), "starttls")
        .with("connections", "1")
        .sender();
    for (recipient, class, code) in [
        ("a+450@warren.test", Class::Retry, "smtp_temporary"),
        (
            "a+451@warren.test",
            Class::RetryAfter(Duration::from_secs(300)),
            "smtp_greylisted",
        ),
        ("a+550@warren.test", Class::Fail, "smtp_permanent"),
        ("a+421@warren.test", Class::Retry, "smtp_421"),
        (
            "a+dropdata@warren.test",
            Class::Retry,
            "smtp_connection_lost",
        ),
        (
            "a+dropdot@warren.test",
            Class::UnknownOutcome,
            "smtp_outcome_unknown",
        ),
        (
            "a+crash@warren.test",
            Class::UnknownOutcome,
            "smtp_outcome_unknown",
        ),
    ] {
        let error = send(&sender, recipient).await.unwrap_err();
        assert_eq!(
            (error.class, error.code),
            (class, code),
            "{recipient}: {error}"
        );
        assert!(!error.text.contains("warren.test"), "{}", error.text);
        // Whatever happened, the next mail goes.
        send(&sender, "b@warren.test").await.unwrap();
    }
}

#[tokio::test]
async fn connections_cut_while_idle_cost_nothing() {
    let inbox = inbox();
    let sender = Relay::new(&inbox, inbox.smtp_addr(), "starttls").sender();
    for round in 1..=5 {
        let mails = (0..8).map(|_| send(&sender, "a@warren.test"));
        for outcome in futures_util::future::join_all(mails).await {
            outcome.unwrap();
        }
        assert_eq!(inbox.count(), round * 8);
        inbox.drop_connections();
        // Cut in the middle of a mail they would cost something.
        while inbox.connections() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_relay_that_hangs_is_given_up() {
    let inbox = inbox();
    let sender = Relay::new(&inbox, inbox.smtp_addr(), "none")
        .with("command_timeout_s", "1")
        .with("data_timeout_s", "1")
        .sender();
    for (phase, class, code) in [
        (Phase::Rcpt, Class::Retry, "smtp_timeout"),
        (Phase::Dot, Class::UnknownOutcome, "smtp_outcome_unknown"),
    ] {
        inbox
            .set_faults(vec![FaultRule::new("*", phase, Action::Hang).times(1)])
            .unwrap();
        let error = send(&sender, "a@warren.test").await.unwrap_err();
        assert_eq!((error.class, error.code), (class, code));
        send(&sender, "a@warren.test").await.unwrap();
    }
}

#[tokio::test]
async fn no_more_connections_than_configured() {
    let inbox = inbox();
    let sender = Relay::new(&inbox, inbox.smtp_addr(), "none")
        .with("connections", "4")
        .with("max_mails_per_connection", "10")
        .sender();
    let watch = async {
        let mut most = 0;
        while inbox.count() < 400 {
            most = most.max(inbox.connections());
            tokio::task::yield_now().await;
        }
        most
    };
    let mails = futures_util::future::join_all((0..400).map(|_| send(&sender, "a@warren.test")));
    let (outcomes, most) = tokio::join!(mails, watch);
    assert!(outcomes.iter().all(Result::is_ok));
    assert!(most <= 4, "{most}");
}
