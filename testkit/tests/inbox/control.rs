//! The library's own face: waiting, cutting, pausing, stopping.

use std::{net::SocketAddr, time::Duration};

use testkit::inbox::{Inbox, InboxOptions};
use tokio::net::TcpStream;

use super::client::{LONG, Smtp, start, start_with};

#[tokio::test]
async fn waiting_sees_earlier_and_later_mails() {
    let inbox = start();
    let mut smtp = Smtp::ready(&inbox).await;
    smtp.mail("a@warren.test", "1").await;
    inbox
        .wait_for_recipient("a@warren.test", LONG)
        .await
        .unwrap();
    let later = async {
        smtp.mail("b@warren.test", "2").await;
        smtp.mail("a@warren.test", "3").await;
    };
    let (mails, all, ()) = tokio::join!(
        inbox.wait_for_mails_to("A@warren.test", 2, LONG),
        inbox.wait_for_count(3, LONG),
        later
    );
    all.unwrap();
    let texts: Vec<_> = mails
        .unwrap()
        .iter()
        .map(|mail| mail.parsed().text)
        .collect();
    assert_eq!(
        texts,
        ["", ""],
        "lines without a colon are no text of a mail"
    );
}

#[tokio::test]
async fn a_wait_in_vain_says_what_came() {
    let inbox = start();
    Smtp::ready(&inbox).await.mail("a@warren.test", "").await;
    let error = inbox
        .wait_for_recipient("b@warren.test", Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "waited 0ns for 1 mails to b@warren.test, 0 came; mails are to: [a@warren.test]"
    );
    let error = inbox.wait_for_count(2, Duration::ZERO).await.unwrap_err();
    assert_eq!(error.to_string(), "waited 0ns for 2 mails, 1 came");
}

#[actix_web::test]
async fn it_works_within_an_actix_test() {
    let inbox = start();
    Smtp::ready(&inbox).await.mail("a@warren.test", "").await;
    inbox.wait_for_count(1, LONG).await.unwrap();
}

#[tokio::test]
async fn open_connections_are_cut_and_new_ones_welcome() {
    let inbox = start();
    let mut idle = Smtp::ready(&inbox).await;
    let mut busy = Smtp::ready(&inbox).await;
    busy.ask("MAIL FROM:<>", 250).await;
    assert_eq!(inbox.connections(), 2);
    inbox.drop_connections();
    idle.expect_end().await;
    busy.expect_end().await;
    Smtp::ready(&inbox).await.mail("a@warren.test", "").await;
}

#[tokio::test]
async fn a_paused_inbox_keeps_new_connections_waiting() {
    let inbox = start();
    let mut open = Smtp::ready(&inbox).await;
    inbox.pause();
    let mut waiting = Smtp::connect(inbox.smtp_addr()).await;
    assert!(
        tokio::time::timeout(Duration::from_millis(50), waiting.expect(220))
            .await
            .is_err()
    );
    open.mail("a@warren.test", "").await;
    inbox.resume();
    waiting.expect(220).await;
}

#[tokio::test]
async fn stopping_frees_the_ports() {
    // An address of its own, so that no other test takes the ports in between.
    let any = SocketAddr::from(([127, 7, 7, 7], 0));
    let options = InboxOptions {
        smtp: any,
        smtps: Some(any),
        http: any,
        ..InboxOptions::default()
    };
    let inbox = start_with(options.clone());
    let mut open = Smtp::ready(&inbox).await;
    let options = InboxOptions {
        smtp: inbox.smtp_addr(),
        smtps: inbox.smtps_addr(),
        http: inbox
            .http_url()
            .strip_prefix("http://")
            .unwrap()
            .parse()
            .unwrap(),
        ..options
    };
    inbox.stop().await;
    open.expect_end().await;
    TcpStream::connect(options.smtp).await.unwrap_err();
    let again = start_with(options);
    Smtp::ready(&again).await.mail("a@warren.test", "").await;
}

#[tokio::test]
async fn dropping_it_ends_the_connections() {
    let inbox = start();
    let mut open = Smtp::ready(&inbox).await;
    drop(inbox);
    open.expect_end().await;
}

#[tokio::test]
async fn a_taken_port_is_an_error() {
    let inbox = start();
    let error = Inbox::start(InboxOptions {
        smtp: inbox.smtp_addr(),
        ..InboxOptions::default()
    })
    .unwrap_err();
    assert!(
        error.to_string().contains(&inbox.smtp_addr().to_string()),
        "{error}"
    );
}
