//! Connections that break or fall silent.

use super::*;

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
                files: &[],
                not_before: None,
                permit: &Always::default(),
            },
            Instant::now() + SHORT,
        )
        .await;
    assert_eq!(class_and_code(outcome), (Class::Retry, "smtp_timeout"));
    relay.heard().await;
}
