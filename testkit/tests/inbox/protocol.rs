//! The dialogue of RFC 5321 and its extensions.

use testkit::inbox::{Auth, InboxOptions};

use super::client::{LONG, Smtp, start, start_with};

#[tokio::test]
async fn a_mail_arrives_as_it_was_sent() {
    let inbox = start();
    let mut smtp = Smtp::ready(&inbox).await;
    smtp.ask(
        "MAIL FROM:<from@warren.test> SIZE=100 BODY=8BITMIME SMTPUTF8",
        250,
    )
    .await;
    smtp.ask("RCPT TO:<ann@warren.test>", 250).await;
    smtp.ask("RCPT TO:<jürgen@münchen.test>", 250).await;
    smtp.ask("DATA", 354).await;
    smtp.send("Subject: Grüße\r\nX-Warren-Task: t-1\r\n\r\n..dot\r\n...\r\nend\r\n.\r\n")
        .await;
    let reply = smtp.expect(250).await;
    smtp.ask("QUIT", 221).await;
    smtp.expect_end().await;

    let mail = inbox
        .wait_for_recipient("ANN@warren.test", LONG)
        .await
        .unwrap();
    assert!(reply.contains(&mail.id.to_string()), "{reply}");
    assert_eq!(mail.envelope_from, "from@warren.test");
    assert_eq!(mail.envelope_to, ["ann@warren.test", "jürgen@münchen.test"]);
    assert_eq!(
        &mail.raw[..],
        "Subject: Grüße\r\nX-Warren-Task: t-1\r\n\r\n.dot\r\n..\r\nend\r\n".as_bytes()
    );
    assert_eq!(mail.parsed().subject, "Grüße");
    assert_eq!(mail.task().as_deref(), Some("t-1"));
    assert_eq!(
        (mail.client.helo.as_str(), mail.client.tls),
        ("client.test", false)
    );
}

#[tokio::test]
async fn ehlo_tells_the_extensions() {
    let inbox = start();
    let mut smtp = Smtp::connect(inbox.smtp_addr()).await;
    smtp.expect(220).await;
    let reply = smtp.ask("EHLO client.test", 250).await;
    for keyword in [
        "PIPELINING",
        "8BITMIME",
        "SMTPUTF8",
        "STARTTLS",
        "SIZE 26214400",
        "AUTH PLAIN LOGIN",
        "ENHANCEDSTATUSCODES",
    ] {
        assert!(reply.contains(keyword), "{keyword} in {reply}");
    }
    let reply = smtp.ask("HELO client.test", 250).await;
    assert_eq!(reply, "250 localhost");
}

#[tokio::test]
async fn hidden_extensions_are_not_honoured() {
    let without = ["STARTTLS", "SMTPUTF8", "8BITMIME", "SIZE", "auth"]
        .map(str::to_owned)
        .to_vec();
    let inbox = start_with(InboxOptions {
        without,
        ..InboxOptions::default()
    });
    let mut smtp = Smtp::connect(inbox.smtp_addr()).await;
    smtp.expect(220).await;
    let reply = smtp.ask("EHLO client.test", 250).await;
    assert_eq!(
        reply,
        "250-localhost\n250-PIPELINING\n250 ENHANCEDSTATUSCODES"
    );
    smtp.ask("STARTTLS", 502).await;
    smtp.ask("AUTH PLAIN AGEAYg==", 502).await;
    for parameter in ["SMTPUTF8", "BODY=8BITMIME", "SIZE=1"] {
        smtp.ask(&format!("MAIL FROM:<a@warren.test> {parameter}"), 555)
            .await;
    }
}

#[tokio::test]
async fn a_pipelined_group_is_answered_in_order() {
    let inbox = start();
    let mut smtp = Smtp::ready(&inbox).await;
    smtp.send(
        "MAIL FROM:<>\r\nRCPT TO:<a@warren.test>\r\nRCPT TO:<b+550@warren.test>\r\nDATA\r\n\
         one\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<c@warren.test>\r\nDATA\r\n\r\n.\r\nNOOP\r\nQUIT\r\n",
    )
    .await;
    for code in [250, 250, 550, 354, 250, 250, 250, 354, 250, 250, 221] {
        smtp.expect(code).await;
    }
    smtp.expect_end().await;
    let raws: Vec<_> = inbox
        .messages()
        .iter()
        .map(|mail| mail.raw.to_vec())
        .collect();
    assert_eq!(raws, [b"one\r\n".to_vec(), b"\r\n".to_vec()]);
}

#[tokio::test]
async fn commands_out_of_order_are_refused() {
    let inbox = start();
    let mut smtp = Smtp::connect(inbox.smtp_addr()).await;
    smtp.expect(220).await;
    for (command, code) in [
        ("MAIL FROM:<a@warren.test>", 503),
        ("EHLO client.test", 250),
        ("RCPT TO:<a@warren.test>", 503),
        ("DATA", 503),
        ("MAIL FROM:<a@warren.test>", 250),
        ("MAIL FROM:<b@warren.test>", 503),
        ("DATA", 554),
        ("RCPT TO:<ü@warren.test>", 553),
        ("RCPT TO:<a@warren.test>", 250),
        ("RSET", 250),
        ("DATA", 503),
        ("MAIL FROM:<ü@warren.test>", 553),
        ("MAIL FROM:<a@warren.test> SIZE=26214401", 552),
        ("VRFY a", 252),
        ("EXPN a", 502),
        ("HELP", 214),
        ("BOGUS", 500),
        ("", 500),
    ] {
        smtp.ask(command, code).await;
    }
    assert_eq!(inbox.count(), 0);
}

#[tokio::test]
async fn hostile_bytes_get_a_refusal() {
    let inbox = start();
    let mut smtp = Smtp::ready(&inbox).await;
    for bytes in [
        &b"\xff\xfe\0\r\n"[..],
        b"MAIL FROM:<\"\r\n",
        b"RCPT TO:<@@@>\r\n",
        b"AUTH LOGIN \xff\r\n",
    ] {
        smtp.send(bytes).await;
        smtp.send("NOOP\r\n").await;
        // 500 or 501.
        smtp.expect(50).await;
        smtp.expect(250).await;
    }
    smtp.send(vec![b'A'; 200_000]).await;
    smtp.ask("", 500).await;
    smtp.mail("still@warren.test", "alive").await;
}

#[tokio::test]
async fn a_half_sent_mail_is_not_kept() {
    let inbox = start();
    let mut smtp = Smtp::ready(&inbox).await;
    assert_eq!(smtp.envelope("a@warren.test").await, 250);
    smtp.ask("DATA", 354).await;
    smtp.send("Subject: half\r\n\r\nnever ended\r\n.\n").await;
    drop(smtp);
    Smtp::ready(&inbox)
        .await
        .mail("b@warren.test", "whole")
        .await;
    assert_eq!(inbox.count(), 1);
}

#[tokio::test]
async fn any_credentials_do_unless_fixed() {
    let inbox = start_with(InboxOptions {
        require_auth: true,
        ..InboxOptions::default()
    });
    let mut smtp = Smtp::ready(&inbox).await;
    smtp.ask("MAIL FROM:<a@warren.test>", 530).await;
    smtp.ask("AUTH PLAIN AGFubgBzZWNyZXQ=", 235).await;
    smtp.ask("AUTH PLAIN AGFubgBzZWNyZXQ=", 503).await;
    smtp.mail("b@warren.test", "").await;
    assert_eq!(inbox.messages()[0].client.user.as_deref(), Some("ann"));
}

#[tokio::test]
async fn fixed_credentials_are_checked() {
    let auth = Auth::Fixed {
        user: "ann".to_owned(),
        password: "secret".to_owned(),
    };
    let inbox = start_with(InboxOptions {
        auth,
        require_auth: true,
        ..InboxOptions::default()
    });
    let mut smtp = Smtp::ready(&inbox).await;
    smtp.ask("AUTH PLAIN AGFubgB3cm9uZw==", 535).await;
    smtp.ask("AUTH PLAIN !!!", 501).await;
    smtp.ask("AUTH PLAIN YQ==", 501).await;
    smtp.ask("AUTH CRAM-MD5", 504).await;
    smtp.ask("AUTH LOGIN", 334).await;
    smtp.ask("*", 501).await;
    assert_eq!(smtp.ask("AUTH LOGIN", 334).await, "334 VXNlcm5hbWU6");
    assert_eq!(smtp.ask("YW5u", 334).await, "334 UGFzc3dvcmQ6");
    smtp.ask("c2VjcmV0", 235).await;
    smtp.mail("b@warren.test", "").await;

    let mut smtp = Smtp::ready(&inbox).await;
    smtp.ask("AUTH PLAIN", 334).await;
    smtp.ask("AGFubgBzZWNyZXQ=", 235).await;
    let mut smtp = Smtp::ready(&inbox).await;
    smtp.ask("AUTH LOGIN YW5u", 334).await;
    smtp.ask("c2VjcmV0", 235).await;
}
