//! Sizes, counts, times, and what happens beyond them.

use std::time::Duration;

use testkit::inbox::InboxOptions;

use super::client::{Smtp, start_with};

#[tokio::test]
async fn a_mail_that_is_too_large_is_refused_and_the_next_one_taken() {
    let inbox = start_with(InboxOptions {
        max_message_size: 1000,
        ..InboxOptions::default()
    });
    let mut smtp = Smtp::ready(&inbox).await;
    assert_eq!(smtp.envelope("a@warren.test").await, 250);
    smtp.ask("DATA", 354).await;
    smtp.send("0123456789abcde\r\n".repeat(10_000)).await;
    smtp.ask(".", 552).await;
    smtp.mail("b@warren.test", "small").await;
    assert_eq!(inbox.count(), 1);
}

#[tokio::test]
async fn a_text_line_that_is_too_long_is_refused() {
    let inbox = start_with(InboxOptions::default());
    let mut smtp = Smtp::ready(&inbox).await;
    smtp.mail("a@warren.test", &"x".repeat(998)).await;
    assert_eq!(smtp.envelope("a@warren.test").await, 250);
    smtp.ask("DATA", 354).await;
    smtp.send(format!("{}\r\n", "x".repeat(999))).await;
    smtp.ask(".", 554).await;
}

#[tokio::test]
async fn recipients_are_limited() {
    let inbox = start_with(InboxOptions {
        max_recipients: 2,
        ..InboxOptions::default()
    });
    let mut smtp = Smtp::ready(&inbox).await;
    smtp.ask("MAIL FROM:<>", 250).await;
    for code in [250, 250, 452] {
        smtp.ask("RCPT TO:<a@warren.test>", code).await;
    }
}

#[tokio::test]
async fn connections_are_limited() {
    let inbox = start_with(InboxOptions {
        max_connections: 1,
        ..InboxOptions::default()
    });
    let mut first = Smtp::ready(&inbox).await;
    let mut second = Smtp::connect(inbox.smtp_addr()).await;
    second.expect(421).await;
    second.expect_end().await;
    assert_eq!(inbox.connections(), 1);
    first.ask("QUIT", 221).await;
    first.expect_end().await;
}

#[tokio::test]
async fn a_silent_client_is_sent_away() {
    let command_timeout = Duration::from_millis(50);
    let inbox = start_with(InboxOptions {
        command_timeout,
        ..InboxOptions::default()
    });
    let mut smtp = Smtp::connect(inbox.smtp_addr()).await;
    smtp.expect(220).await;
    smtp.expect(421).await;
    smtp.expect_end().await;
}

#[tokio::test]
async fn endless_nonsense_is_cut_off() {
    let inbox = start_with(InboxOptions::default());
    let mut smtp = Smtp::ready(&inbox).await;
    for _ in 0..50 {
        smtp.ask("NONSENSE", 500).await;
    }
    smtp.ask("NONSENSE", 421).await;
    smtp.expect_end().await;
}

#[tokio::test]
async fn light_mode_keeps_envelope_and_task() {
    let inbox = start_with(InboxOptions {
        keep_raw: false,
        ..InboxOptions::default()
    });
    let mut smtp = Smtp::ready(&inbox).await;
    for task in ["t-1", "t-2", "t-1"] {
        smtp.mail(
            "a@warren.test",
            &format!("X-Warren-Task: {task}\r\n\r\nbody"),
        )
        .await;
    }
    let counts: Vec<_> = inbox
        .deliveries()
        .into_iter()
        .map(|delivery| (delivery.value, delivery.count))
        .collect();
    assert_eq!(counts, [("t-1".to_owned(), 2), ("t-2".to_owned(), 1)]);
    let mail = &inbox.messages()[0];
    assert_eq!(
        (mail.raw.len(), mail.size, mail.envelope_to.len()),
        (0, 28, 1)
    );
}
