use super::*;
use proptest::prelude::*;
use shared::category::Category;

const SECRET: &str = "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

struct House {
    peppers: Peppers,
    base: EmailAddress,
}

impl House {
    fn new() -> Self {
        Self {
            peppers: Peppers::parse(&SECRET.into()).unwrap(),
            base: EmailAddress::parse("bounce@bounces.example.com").unwrap(),
        }
    }

    fn mark(&self, task: TaskId) -> String {
        let address = return_path::address(&self.base, task, &self.peppers).unwrap();
        address.as_str().to_owned()
    }

    fn parse(&self, raw: &str, recipient: Option<&str>) -> Parsed {
        let marks = Marks {
            return_path: Some(&self.base),
            peppers: &self.peppers,
        };
        parse(raw.replace('\n', "\r\n").as_bytes(), recipient, marks).unwrap()
    }
}

/// As Postfix writes it, shortened.
fn bounce(to: &str, action: &str, status: &str) -> String {
    format!(
        "Return-Path: <>
Date: Wed, 25 Nov 2026 10:00:00 +0000
From: MAILER-DAEMON@mx.example.net (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: {to}
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary=\"3F2A.1\"

This is a MIME-encapsulated message.

--3F2A.1
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

<ada@example.net>: host mx.example.net said: 550 5.1.1 unknown

--3F2A.1
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; relay.example.com
Arrival-Date: Wed, 25 Nov 2026 09:59:59 +0000

Final-Recipient: rfc822; ada@example.net
Original-Recipient: rfc822;ada@example.net
Action: {action}
Status: {status}
Diagnostic-Code: smtp; 550 5.1.1 <ada@example.net>: Recipient address
    rejected: User unknown

--3F2A.1
Content-Description: Undelivered Message Headers
Content-Type: text/rfc822-headers

From: shop@example.com
To: ada@example.net
Subject: Hi

--3F2A.1--
"
    )
}

#[test]
fn a_bounce_is_read() {
    let (house, task) = (House::new(), TaskId::now());
    let parsed = house.parse(&bounce(&house.mark(task), "failed", "5.1.1"), None);
    assert_eq!(parsed.task, Some(task));
    let Some(Report::Delivery(delivery)) = parsed.report else {
        panic!("{parsed:?}");
    };
    assert_eq!(
        (delivery.action, &*delivery.status),
        (Action::Failed, "5.1.1")
    );
    assert_eq!(
        delivery.diagnostic,
        "550 5.1.1 *** Recipient address rejected: User unknown"
    );
}

#[test]
fn where_it_was_sent_to_tells_the_mail() {
    let (house, task) = (House::new(), TaskId::now());
    let raw = bounce("somebody@example.com", "delayed", "4.4.1 (no answer)");
    assert_eq!(house.parse(&raw, None).task, None);
    let parsed = house.parse(&raw, Some(&format!("<{}>", house.mark(task))));
    assert_eq!(parsed.task, Some(task));
    let Some(Report::Delivery(delivery)) = parsed.report else {
        panic!("{parsed:?}");
    };
    assert_eq!(
        (delivery.action, &*delivery.status),
        (Action::Delayed, "4.4.1")
    );
    let made_up = format!("bounce+{}@bounces.example.com", "0".repeat(42));
    assert_eq!(house.parse(&raw, Some(&made_up)).task, None);
}

/// The example of RFC 5965, appendix B.2, shortened.
fn complaint(original: &str, more: &str) -> String {
    format!(
        "From: <abusedesk@example.net>
Date: Thu, 8 Mar 2005 17:40:36 EDT
Subject: FW: Earn money
To: <abuse@example.com>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report;
     boundary=\"part1_13d.2e68ed54_boundary\"

--part1_13d.2e68ed54_boundary
Content-Type: text/plain; charset=\"US-ASCII\"
Content-Transfer-Encoding: 7bit

This is an email abuse report for an email message received from IP
192.0.2.1 on Thu, 8 Mar 2005 14:00:00 EDT.

--part1_13d.2e68ed54_boundary
Content-Type: message/feedback-report

Feedback-Type: Abuse
User-Agent: SomeGenerator/1.0
Version: 1
{more}Source-IP: 192.0.2.1

--part1_13d.2e68ed54_boundary
Content-Type: message/rfc822
Content-Disposition: inline

{original}From: <somespammer@example.net>
To: <user@example.com>
Subject: Earn money
MIME-Version: 1.0
Content-type: text/plain
Message-ID: 8787KJKJ3K4J3K4J3K4J3.mail@example.net
Date: Thu, 02 Sep 2004 12:31:03 -0500

Spam
--part1_13d.2e68ed54_boundary--
"
    )
}

#[test]
fn a_complaint_tells_its_mail_by_any_mark_of_ours() {
    let (house, task) = (House::new(), TaskId::now());
    let mark = house.mark(task);
    let abuse = Some(Report::Feedback(Feedback {
        kind: "abuse".into(),
    }));
    for (original, more) in [
        (format!("Return-Path: <{mark}>\n"), String::new()),
        (String::new(), format!("Original-Mail-From: <{mark}>\n")),
    ] {
        let parsed = house.parse(&complaint(&original, &more), None);
        assert_eq!((parsed.task, &parsed.report), (Some(task), &abuse));
    }
    let unsubscription = Unsubscription {
        address: EmailAddress::parse("ada@example.net").unwrap(),
        category: Category::Marketing,
        task,
    };
    let token = unsubscription.token(&house.peppers).unwrap();
    let header = format!("List-Unsubscribe: <https://mail.example.com/unsubscribe/{token}>\n");
    let parsed = house.parse(&complaint(&header, ""), None);
    assert_eq!(parsed.unsubscription, Some(unsubscription));
    assert_eq!((parsed.task, parsed.report), (None, abuse));
}

#[test]
fn other_mail_is_no_report() {
    let house = House::new();
    let parsed = house.parse(
        "From: a@b.example\nTo: c@d.example\nSubject: Hi\n\nOut of office\n",
        None,
    );
    assert_eq!((parsed.report, parsed.task), (None, None));
}

proptest! {
    #[test]
    fn nothing_that_comes_makes_it_fall(bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0_usize..2000) {
        let house = House::new();
        let marks = Marks { return_path: Some(&house.base), peppers: &house.peppers };
        let _any = parse(&bytes, None, marks);
        let mut raw = bounce("a@b.example", "failed", "5.1.1").into_bytes();
        let at = at.min(raw.len());
        raw.splice(at..at, bytes);
        if let Some(Parsed { report: Some(Report::Delivery(delivery)), .. }) = parse(&raw, None, marks) {
            prop_assert!(delivery.diagnostic.len() <= 4 * LONGEST_DETAIL);
            prop_assert!(!delivery.diagnostic.chars().any(char::is_control));
        }
    }
}
