//! Mails that must be on record before their end can be on its way.

use super::*;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A permit whose record is made, or refused, when the test says so.
struct Recorded {
    always: Always,
    asked: Notify,
    answered: Notify,
    granted: bool,
}

impl Recorded {
    fn new(granted: bool) -> Self {
        Self {
            always: Always::default(),
            asked: Notify::new(),
            answered: Notify::new(),
            granted,
        }
    }
}

impl Permit for Recorded {
    fn is_held(&self) -> bool {
        true
    }

    fn withdrawn(&self) -> &CancellationToken {
        self.always.withdrawn()
    }

    fn point_of_no_return(&self) -> Option<BoxFuture<'_, bool>> {
        let answer = async {
            self.asked.notify_one();
            self.answered.notified().await;
            self.granted
        };
        Some(answer.boxed())
    }
}

const BEGUN: [Step; 7] = [
    Greet(&[]),
    Hear("MAIL"),
    Say("250 ok"),
    Hear("RCPT"),
    Say("250 ok"),
    Hear("DATA"),
    Say("354 go"),
];

/// What becomes of a mail whose record is answered when the relay waits for the mail itself.
async fn outcome_of(
    permit: &Recorded,
    after: &[Step],
    change: impl FnOnce(&mut Settings),
) -> (Result<EmailSent, SendError>, Vec<String>) {
    let relay = Relay::start(vec![[&BEGUN[..], after].concat()]).await;
    let mut settings = settings(&relay);
    change(&mut settings);
    let sender = sender(settings);
    let mail = mail();
    let answer = async {
        permit.asked.notified().await;
        permit.answered.notify_one();
    };
    let (outcome, ()) = tokio::join!(send_if(&sender, &mail, permit), answer);
    drop(sender);
    (outcome, relay.heard().await)
}

#[tokio::test]
async fn a_mail_whose_record_is_refused_is_not_sent() {
    let (outcome, heard) = outcome_of(&Recorded::new(false), &[HearEnd], |_| {}).await;
    assert_eq!(class_and_code(outcome), (Class::NotBegun, "smtp_not_begun"));
    assert_eq!(heard[heard.len() - 2..], ["DATA", ""]);
}

#[tokio::test]
async fn a_mail_goes_on_when_its_record_is_made() {
    let taken = [HearMail, Say("250 taken"), HearEnd];
    let (outcome, _) = outcome_of(&Recorded::new(true), &taken, |_| {}).await;
    assert_eq!(outcome.unwrap().reply, "250 taken");
}

#[tokio::test]
async fn a_relay_is_not_kept_waiting_for_a_record_for_ever() {
    let relay = Relay::start(vec![[&BEGUN[..], &[HearEnd]].concat()]).await;
    let mut settings = settings(&relay);
    settings.timeouts.command = SHORT;
    let sender = sender(settings);
    let outcome = send_if(&sender, &mail(), &Recorded::new(true)).await;
    assert_eq!(class_and_code(outcome), (Class::NotBegun, "smtp_not_begun"));
    drop(sender);
    relay.heard().await;
}

#[tokio::test]
async fn a_relay_that_hung_up_meanwhile_has_no_mail() {
    let relay = Relay::start(vec![BEGUN.to_vec()]).await;
    let sender = sender(settings(&relay));
    let (mail, permit) = (mail(), Recorded::new(true));
    let answer = async {
        permit.asked.notified().await;
        relay.heard().await;
        // Lets the runtime see that the connection has ended.
        tokio::task::yield_now().await;
        permit.answered.notify_one();
    };
    let (outcome, ()) = tokio::join!(send_if(&sender, &mail, &permit), answer);
    assert_eq!(
        class_and_code(outcome),
        (Class::Retry, "smtp_connection_lost")
    );
}
