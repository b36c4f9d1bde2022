mod corpus;
mod property;

use super::*;
use mail_parser::MessageParser;
use shared::kinds::{AcceptDefaults, Kind as _};
use uuid::Uuid;

/// No files.
const NONE: &[&[u8]] = &[];

const ID: TaskId = TaskId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));

fn defaults() -> AcceptDefaults {
    AcceptDefaults {
        from: address::Mailbox::parse("Warren <warren@example.com>").ok(),
        max_recipients: 50,
        max_subject_bytes: 998,
        max_headers: 20,
        max_metadata: 20,
        can_unsubscribe: true,
        categories: shared::config::Config::with(&[]).unwrap().mail.categories,
        outbound: std::sync::Arc::default(),
        templates: std::sync::Arc::new(shared::template::NothingStored),
    }
}

fn prepared(json: &str) -> EmailSend {
    let mut mail: EmailSend = shared::fields::parse(json.as_bytes()).unwrap();
    mail.prepare(&defaults()).unwrap();
    mail
}

fn built(json: &str) -> String {
    let mail = build(ID, &prepared(json), NONE, None, &BuildOptions::default()).unwrap();
    String::from_utf8(mail).unwrap().replace("\r\n", "\n")
}

#[test]
fn plain_text() {
    insta::assert_snapshot!(built(r#"{"to":"Ada <ada@example.com>","subject":"Hi","text":"Hello\n.\nAda\n"}"#), @r#"
    Date: Mon, 10 Jun 2024 02:35:18 +0000
    From: Warren <warren@example.com>
    To: Ada <ada@example.com>
    Subject: Hi
    Message-ID: <01900000-0000-7000-8000-000000000001@example.com>
    X-Warren-Task: 01900000-0000-7000-8000-000000000001
    MIME-Version: 1.0
    Content-Type: text/plain; charset=utf-8
    Content-Transfer-Encoding: 7bit

    Hello
    .
    Ada
    "#);
}

#[test]
fn html_alone_with_headers() {
    insta::assert_snapshot!(built(r#"{"to":"ada@example.com","subject":"Hi","html":"<p>Hello</p>","headers":{"X-Campaign":"spring","List-Unsubscribe":"<https://example.com/u>"},"reply_to":"help@example.com"}"#), @r#"
    Date: Mon, 10 Jun 2024 02:35:18 +0000
    From: Warren <warren@example.com>
    To: ada@example.com
    Reply-To: help@example.com
    Subject: Hi
    Message-ID: <01900000-0000-7000-8000-000000000001@example.com>
    X-Warren-Task: 01900000-0000-7000-8000-000000000001
    List-Unsubscribe: <https://example.com/u>
    X-Campaign: spring
    MIME-Version: 1.0
    Content-Type: text/html; charset=utf-8
    Content-Transfer-Encoding: 7bit

    <p>Hello</p>
    "#);
}

#[test]
fn both_parts_in_utf8() {
    insta::assert_snapshot!(built(r#"{"to":"Jörg Müller <j@example.com>","subject":"Grüße aus Köln","text":"Schöne Grüße","html":"<p>日本語</p>"}"#), @r#"
    Date: Mon, 10 Jun 2024 02:35:18 +0000
    From: Warren <warren@example.com>
    To: =?utf-8?b?SsO2cmcgTcO8bGxlcg==?= <j@example.com>
    Subject: =?utf-8?b?R3LDvMOfZQ==?= aus =?utf-8?b?S8O2bG4=?=
    Message-ID: <01900000-0000-7000-8000-000000000001@example.com>
    X-Warren-Task: 01900000-0000-7000-8000-000000000001
    MIME-Version: 1.0
    Content-Type: multipart/alternative;
     boundary="=_01900000000070008000000000000001"

    --=_01900000000070008000000000000001
    Content-Type: text/plain; charset=utf-8
    Content-Transfer-Encoding: base64

    U2Now7ZuZSBHcsO8w59l
    --=_01900000000070008000000000000001
    Content-Type: text/html; charset=utf-8
    Content-Transfer-Encoding: base64

    PHA+5pel5pys6KqePC9wPg==
    --=_01900000000070008000000000000001--
    "#);
}

#[test]
fn a_group_shares_its_message_id_and_hides_its_bcc() {
    let json = r#"{"recipient":"secret@example.com","from":"Doe, \"Jo\" <jo@example.com>","to":["Ada L. <ada@example.com>","b@example.com"],"cc":"\"O'Hara, C\" <c@example.com>","subject":"Re: =?utf-8?q?x?=","text":"t","message_id":"01890000-0000-7000-8000-000000000009"}"#;
    insta::assert_snapshot!(built(json), @r#"
    Date: Mon, 10 Jun 2024 02:35:18 +0000
    From: =?utf-8?b?RG9lLCAiSm8i?= <jo@example.com>
    To: "Ada L." <ada@example.com>, b@example.com
    Cc: =?utf-8?b?TydIYXJhLCBD?= <c@example.com>
    Subject: =?utf-8?q?Re=3A=20=3D=3Futf=2D8=3Fq=3Fx=3F=3D?=
    Message-ID: <01890000-0000-7000-8000-000000000009@example.com>
    X-Warren-Task: 01900000-0000-7000-8000-000000000001
    MIME-Version: 1.0
    Content-Type: text/plain; charset=utf-8
    Content-Transfer-Encoding: 7bit

    t
    "#);
    let options = BuildOptions {
        message_id_domain: Some("ids.example".into()),
        ..BuildOptions::default()
    };
    let mail = prepared(json);
    assert_eq!(
        message_id(ID, &mail, &options).unwrap(),
        "01890000-0000-7000-8000-000000000009@ids.example"
    );
}

#[test]
fn long_lines_are_wrapped() {
    let word = "x".repeat(980);
    let subject = format!("{word} b");
    let json = serde_json::json!({"to": "a@example.com", "subject": subject, "text": "y".repeat(5000), "html": "z ".repeat(3000), "headers": {"X-Long": word}});
    let mail = built(&json.to_string());
    assert!(mail.lines().all(|line| line.len() <= 200), "{mail}");
    let parsed = MessageParser::default().parse(mail.as_bytes()).unwrap();
    assert_eq!(parsed.subject(), Some(subject.as_str()));
    assert_eq!(parsed.body_text(0).unwrap(), "y".repeat(5000));
}

#[test]
fn every_attempt_has_the_same_bytes() {
    let json = r#"{"to":"a@example.com","subject":"s","text":"a","html":"b"}"#;
    assert_eq!(built(json), built(json));
}

#[test]
fn addresses_beyond_ascii_stay_as_they_are() {
    let mail = built(r#"{"to":"jörg@example.com","subject":"s","text":"a"}"#);
    assert!(mail.contains("\nTo: jörg@example.com\n"), "{mail}");
}

#[test]
fn what_the_door_should_have_refused_is_refused_here_too() {
    let good = prepared(r#"{"to":"a@example.com","subject":"s","text":"a"}"#);
    let refused = |change: fn(&mut EmailSend)| {
        let mut mail = good.clone();
        change(&mut mail);
        build(ID, &mail, NONE, None, &BuildOptions::default()).unwrap_err()
    };
    assert_eq!(
        refused(|mail| mail.from = None),
        BuildError::Missing("sender")
    );
    assert_eq!(
        refused(|mail| mail.to.clear()),
        BuildError::Missing("To address")
    );
    assert_eq!(
        refused(|mail| mail.text = None),
        BuildError::Missing("text or HTML part")
    );
    assert!(matches!(
        refused(|mail| drop(mail.headers.insert("Bcc".into(), "x".into()))),
        BuildError::Header(_)
    ));
    assert!(matches!(
        refused(|mail| drop(mail.headers.insert("X\r\nTo".into(), "x".into()))),
        BuildError::Header(_)
    ));
    assert!(matches!(
        refused(|mail| drop(mail.headers.insert("X-A".into(), "x\r\nTo: y".into()))),
        BuildError::Header(_)
    ));
    assert_eq!(
        refused(|mail| mail.text = Some("\0".into())),
        BuildError::Form("a line holds CR or NUL")
    );
    // The builder panics on this one.
    assert_eq!(
        refused(|mail| mail.to[0].name = Some("A\r\nBcc: b@example.com".into())),
        BuildError::Panicked
    );
    // A time after the year 9999.
    let late = TaskId(Uuid::from_u128(0xffff_ffff_ffff_7000_8000_0000_0000_0001));
    assert_eq!(
        build(late, &good, NONE, None, &BuildOptions::default()),
        Err(BuildError::Panicked)
    );
    assert_eq!(
        build(
            TaskId(Uuid::nil()),
            &good,
            NONE,
            None,
            &BuildOptions::default()
        ),
        Err(BuildError::NoTime)
    );
}
