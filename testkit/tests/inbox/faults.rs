//! Every fault switch, seen from the client.

use std::time::{Duration, Instant};

use testkit::inbox::{Action, FaultRule, Inbox, Phase};

use super::client::{LONG, Smtp, start};

const DELAY: Duration = Duration::from_millis(60);

fn set(inbox: &Inbox, phase: Phase, action: Action) {
    inbox
        .set_faults(vec![FaultRule::new("*", phase, action)])
        .unwrap();
}

#[tokio::test]
async fn refusing_recipients() {
    let inbox = start();
    let mut smtp = Smtp::ready(&inbox).await;
    for (to, code, enhanced) in [
        ("a+450@warren.test", 450, "4.2.1"),
        ("a+550@warren.test", 550, "5.1.1"),
        ("a+552@warren.test", 552, "5.2.2"),
    ] {
        smtp.ask("MAIL FROM:<>", 250).await;
        for _ in 0..3 {
            let reply = smtp.ask(&format!("RCPT TO:<{to}>"), code).await;
            assert!(reply[4..].starts_with(enhanced), "{reply}");
        }
        smtp.ask("RCPT TO:<other@warren.test>", 250).await;
        smtp.ask("RSET", 250).await;
    }
    assert_eq!(smtp.envelope("a+421@warren.test").await, 421);
    smtp.expect_end().await;
}

#[tokio::test]
async fn greylisting_and_counted_refusals_give_way() {
    let inbox = start();
    let mut smtp = Smtp::ready(&inbox).await;
    for (to, codes) in [
        ("a+451@warren.test", [451, 250, 250]),
        ("a+450x2@warren.test", [450, 450, 250]),
    ] {
        for code in codes {
            assert_eq!(smtp.envelope(to).await, code);
            smtp.ask("RSET", 250).await;
        }
    }
    inbox.clear();
    assert_eq!(smtp.envelope("a+451@warren.test").await, 451);
}

#[tokio::test]
async fn slow_recipients_delay_the_replies() {
    let inbox = start();
    let mut smtp = Smtp::ready(&inbox).await;
    let begun = Instant::now();
    smtp.mail("a+slow60@warren.test", "late").await;
    assert!(
        begun.elapsed() >= DELAY * 3,
        "RCPT, DATA and the dot: {:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn dropped_before_354() {
    let inbox = start();
    let mut smtp = Smtp::ready(&inbox).await;
    assert_eq!(smtp.envelope("a+dropdata@warren.test").await, 250);
    smtp.send("DATA\r\n").await;
    smtp.expect_end().await;
    assert_eq!(inbox.count(), 0);
}

#[tokio::test]
async fn dropped_after_the_dot_is_stored_by_crash_only() {
    let inbox = start();
    for (to, stored) in [("a+dropdot@warren.test", 0), ("a+crashx1@warren.test", 1)] {
        let mut smtp = Smtp::ready(&inbox).await;
        assert_eq!(smtp.envelope(to).await, 250);
        smtp.ask("DATA", 354).await;
        smtp.send("X-Warren-Task: t-1\r\n\r\n.\r\n").await;
        smtp.expect_end().await;
        assert_eq!(inbox.count(), stored, "{to}");
    }
    Smtp::ready(&inbox)
        .await
        .mail("a+crashx1@warren.test", "X-Warren-Task: t-1\r\n")
        .await;
    assert_eq!(
        inbox.deliveries()[0].count,
        2,
        "the sender could not know and repeated it"
    );
}

#[tokio::test]
async fn rules_reply_in_each_phase() {
    let inbox = start();
    set(
        &inbox,
        Phase::Connect,
        Action::reply(554, "5.3.2 Not today"),
    );
    let mut smtp = Smtp::connect(inbox.smtp_addr()).await;
    assert_eq!(smtp.expect(554).await, "554 5.3.2 Not today");

    let mut smtp = Smtp::connect_quietly(&inbox).await;
    for (phase, command) in [
        (Phase::Ehlo, "EHLO client.test"),
        (Phase::Auth, "AUTH PLAIN AGEAYg=="),
        (Phase::Mail, "MAIL FROM:<>"),
        (Phase::Rcpt, "RCPT TO:<a@warren.test>"),
        (Phase::Data, "DATA"),
    ] {
        set(&inbox, phase, Action::reply(450, ""));
        assert_eq!(smtp.ask(command, 450).await, "450 4.0.0 Injected fault");
        inbox.set_faults(Vec::new()).unwrap();
        if phase != Phase::Data {
            smtp.send(format!("{command}\r\n")).await;
            smtp.expect(2).await;
        }
    }
    set(&inbox, Phase::Dot, Action::reply(452, "4.3.1 Disk full"));
    smtp.ask("DATA", 354).await;
    smtp.ask(".", 452).await;
    assert_eq!(inbox.count(), 0);
    inbox.set_faults(Vec::new()).unwrap();
    smtp.mail("a@warren.test", "").await;
}

#[tokio::test]
async fn rules_drop_in_each_phase() {
    let inbox = start();
    let steps = [
        (Phase::Connect, ""),
        (Phase::Ehlo, "EHLO client.test\r\n"),
        (Phase::Mail, "MAIL FROM:<>\r\n"),
        (Phase::Rcpt, "RCPT TO:<a@warren.test>\r\n"),
        (Phase::Data, "DATA\r\n"),
        (Phase::Dot, ".\r\n"),
    ];
    for (failing, (phase, _)) in steps.into_iter().enumerate() {
        set(&inbox, phase, Action::Drop);
        let mut smtp = Smtp::connect(inbox.smtp_addr()).await;
        for (step, (_, command)) in steps.into_iter().enumerate().take(failing + 1) {
            smtp.send(command).await;
            match step {
                _ if step == failing => smtp.expect_end().await,
                4 => drop(smtp.expect(354).await),
                _ => drop(smtp.expect(2).await),
            }
        }
    }
    assert_eq!(inbox.count(), 0);
}

#[tokio::test]
async fn rules_match_recipients_and_count_down() {
    let inbox = start();
    let rule =
        FaultRule::new("*@busy.test", Phase::Rcpt, Action::reply(450, "4.2.1 Busy")).times(1);
    inbox.set_faults(vec![rule]).unwrap();
    let mut smtp = Smtp::ready(&inbox).await;
    smtp.ask("MAIL FROM:<>", 250).await;
    smtp.ask("RCPT TO:<a@warren.test>", 250).await;
    smtp.ask("RCPT TO:<a@Busy.Test>", 450).await;
    smtp.ask("RCPT TO:<a@Busy.Test>", 250).await;
    assert_eq!(inbox.faults()[0].times, Some(0));
}

#[tokio::test]
async fn a_delayed_dot_is_stored_before_the_reply() {
    let inbox = start();
    set(&inbox, Phase::Dot, Action::delay(DELAY));
    let mut smtp = Smtp::ready(&inbox).await;
    let begun = Instant::now();
    smtp.mail("a@warren.test", "").await;
    assert!(begun.elapsed() >= DELAY);
    assert!(inbox.messages()[0].received_at <= chrono::Utc::now() - DELAY);
}

#[tokio::test]
async fn a_hanging_server_says_nothing_until_cut() {
    let inbox = start();
    set(&inbox, Phase::Dot, Action::Hang);
    let mut smtp = Smtp::ready(&inbox).await;
    assert_eq!(smtp.envelope("a@warren.test").await, 250);
    smtp.ask("DATA", 354).await;
    smtp.send(".\r\n").await;
    assert!(tokio::time::timeout(DELAY, smtp.expect(250)).await.is_err());
    inbox.drop_connections();
    smtp.expect_end().await;
    assert_eq!(inbox.count(), 0);
}

#[tokio::test]
async fn a_rule_stores_and_drops() {
    let inbox = start();
    set(&inbox, Phase::Dot, Action::StoreThenDrop);
    let mut smtp = Smtp::ready(&inbox).await;
    assert_eq!(smtp.envelope("a@warren.test").await, 250);
    smtp.ask("DATA", 354).await;
    smtp.send(".\r\n").await;
    smtp.expect_end().await;
    inbox
        .wait_for_recipient("a@warren.test", LONG)
        .await
        .unwrap();
}

impl Smtp {
    /// Greeted without the rules that are set now, and not introduced.
    async fn connect_quietly(inbox: &Inbox) -> Self {
        inbox.set_faults(Vec::new()).unwrap();
        let mut smtp = Self::connect(inbox.smtp_addr()).await;
        smtp.expect(220).await;
        smtp
    }
}
