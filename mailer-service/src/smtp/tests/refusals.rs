//! Replies that refuse a mail, and mails that are not sent at all.

use super::*;

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
        (Some("5.1.1"), "<a***@e***> unknown")
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
