//! Connections over several mails.

use super::*;

#[tokio::test]
async fn a_connection_carries_many_mails_also_after_a_refusal() {
    let refused = [
        Hear("MAIL"),
        Say("250 ok"),
        Hear("RCPT"),
        Say("550 no"),
        Hear("RSET"),
        Say("250 ok"),
    ];
    let relay = Relay::start(vec![
        [&[Greet(&[]), Take][..], &refused, &[Take, HearEnd]].concat(),
    ])
    .await;
    let sender = sender(settings(&relay));
    send(&sender, &mail()).await.unwrap();
    assert_eq!(class_and_code(send(&sender, &mail()).await).0, Class::Fail);
    send(&sender, &mail()).await.unwrap();
    sender.close().await;
    assert_eq!(relay.heard().await.last().unwrap(), "QUIT");
    assert_eq!(
        class_and_code(send(&sender, &mail()).await),
        (Class::Retry, "smtp_busy")
    );
}

#[tokio::test]
async fn a_connection_retires_after_its_share() {
    let relay = Relay::start(vec![
        vec![Greet(&[]), Take, Take, Hear("QUIT"), Say("221 bye")],
        vec![Greet(&[]), Take],
    ])
    .await;
    let sender = sender(Settings {
        max_mails: 2,
        ..settings(&relay)
    });
    for _ in 0..3 {
        send(&sender, &mail()).await.unwrap();
    }
    relay.heard().await;
}

#[tokio::test]
async fn an_idle_connection_is_ended_politely() {
    let relay = Relay::start(vec![vec![Greet(&[]), Take, Hear("QUIT"), Say("221 bye")]]).await;
    let sender = sender(Settings {
        max_idle: SHORT,
        ..settings(&relay)
    });
    send(&sender, &mail()).await.unwrap();
    relay.heard().await;
}

#[tokio::test]
async fn a_stale_connection_costs_nothing() {
    for stale in [
        // Closed while idle; closed or lost when the next mail comes.
        vec![],
        vec![Say("421 4.4.2 idle too long")],
        vec![Hear("MAIL")],
        vec![Hear("MAIL"), Reset],
        vec![Hear("MAIL"), Say("421 bye")],
        vec![Hear("MAIL"), Say("250 ok"), Hear("RCPT"), Say("421 bye")],
        vec![
            Hear("MAIL"),
            Say("250 ok"),
            Hear("RCPT"),
            Say("250 ok"),
            Hear("DATA"),
        ],
    ] {
        let relay = Relay::start(vec![
            [&[Greet(&[]), Take][..], &stale].concat(),
            vec![Greet(&[]), Take],
        ])
        .await;
        let sender = sender(settings(&relay));
        send(&sender, &mail()).await.unwrap();
        send(&sender, &mail())
            .await
            .unwrap_or_else(|error| panic!("{stale:?}: {error}"));
        relay.heard().await;
    }
}

#[tokio::test]
async fn one_more_go_is_one() {
    let second = vec![Greet(&[]), Hear("MAIL"), Say("421 bye")];
    let relay = Relay::start(vec![
        vec![Greet(&[]), Take, Hear("MAIL"), Say("421 bye")],
        second,
    ])
    .await;
    let sender = sender(settings(&relay));
    send(&sender, &mail()).await.unwrap();
    assert_eq!(
        class_and_code(send(&sender, &mail()).await),
        (Class::Retry, "smtp_421")
    );
    relay.heard().await;
}

#[tokio::test]
async fn a_dropped_send_leaves_no_connection_and_no_permit_behind() {
    let relay = Relay::start(vec![
        vec![Greet(&[]), Take, Hear("MAIL"), HearEnd],
        vec![Greet(&[]), Take],
    ])
    .await;
    let sender = sender(settings(&relay));
    send(&sender, &mail()).await.unwrap();
    let mail = mail();
    assert!(
        tokio::time::timeout(SHORT, send(&sender, &mail))
            .await
            .is_err()
    );
    send(&sender, &mail).await.unwrap();
    relay.heard().await;
}

#[tokio::test]
async fn whoever_waits_past_the_deadline_is_told_so() {
    let relay = Relay::start(vec![vec![Greet(&[]), Hear("MAIL"), HearEnd]]).await;
    let sender = sender(settings(&relay));
    let mail = mail();
    let always = Always::default();
    let outgoing = Outgoing {
        task_id: TaskId::now(),
        mail: &mail,
        files: &[],
        not_before: None,
        permit: &always,
    };
    let first = sender.send(&outgoing, Instant::now() + 3 * SHORT);
    let second = sender.send(&outgoing, Instant::now() + SHORT);
    let (first, second) = tokio::join!(first, second);
    assert_eq!(class_and_code(first), (Class::Retry, "smtp_timeout"));
    assert_eq!(class_and_code(second), (Class::Retry, "smtp_busy"));
    relay.heard().await;
}

#[tokio::test]
async fn a_relay_that_is_not_there_is_a_plain_retry() {
    let relay = Relay::start(vec![]).await;
    let settings = settings(&relay);
    relay.heard().await;
    assert_eq!(
        class_and_code(send(&sender(settings), &mail()).await),
        (Class::Retry, "smtp_connect_failed")
    );
}
