use super::*;
use mail_parser::{Address as Parsed, MessageParser};
use proptest::prelude::*;
use shared::kinds::{AcceptDefaults, Kind as _};
use uuid::Uuid;

const ID: TaskId = TaskId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));

fn defaults() -> AcceptDefaults {
    AcceptDefaults {
        from: address::Mailbox::parse("Warren <warren@example.com>").ok(),
        max_recipients: 50,
        max_subject_bytes: 998,
        max_headers: 20,
    }
}

fn prepared(json: &str) -> EmailSend {
    let mut mail: EmailSend = shared::fields::parse(json.as_bytes()).unwrap();
    mail.prepare(&defaults()).unwrap();
    mail
}

fn built(json: &str) -> String {
    let mail = build(ID, &prepared(json), &BuildOptions::default()).unwrap();
    String::from_utf8(mail).unwrap().replace("\r\n", "\n")
}

#[test]
fn plain_text() {
    insta::assert_snapshot!(built(r#"{"to":"Ada <ada@example.com>","subject":"Hi","text":"Hello\n.\nAda\n"}"#), @"");
}

#[test]
fn html_alone_with_headers() {
    insta::assert_snapshot!(built(r#"{"to":"ada@example.com","subject":"Hi","html":"<p>Hello</p>","headers":{"X-Campaign":"spring","List-Unsubscribe":"<https://example.com/u>"},"reply_to":"help@example.com"}"#), @"");
}

#[test]
fn both_parts_in_utf8() {
    insta::assert_snapshot!(built(r#"{"to":"Jörg Müller <j@example.com>","subject":"Grüße aus Köln","text":"Schöne Grüße","html":"<p>日本語</p>"}"#), @"");
}

#[test]
fn a_group_shares_its_message_id_and_hides_its_bcc() {
    let json = r#"{"recipient":"secret@example.com","from":"\"Doe, \\\"Jo\\\"\" <jo@example.com>","to":["Ada L. <ada@example.com>","b@example.com"],"cc":"\"O'Hara, C\" <c@example.com>","subject":"Re: =?utf-8?q?x?=","text":"t","message_id":"01890000-0000-7000-8000-000000000009"}"#;
    insta::assert_snapshot!(built(json), @"");
    let options = BuildOptions {
        message_id_domain: Some("ids.example".into()),
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
        build(ID, &mail, &BuildOptions::default()).unwrap_err()
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
        build(late, &good, &BuildOptions::default()),
        Err(BuildError::Panicked)
    );
    assert_eq!(
        build(TaskId(Uuid::nil()), &good, &BuildOptions::default()),
        Err(BuildError::NoTime)
    );
}

/// Text with everything that has a meaning somewhere in a mail.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\r\n"),
        Just("\n"),
        Just("\r"),
        Just("."),
        Just(" "),
        Just("\t"),
        Just("\""),
        Just("\\"),
        Just("<"),
        Just(">"),
        Just("@"),
        Just(","),
        Just(":"),
        Just(";"),
        Just("=?utf-8?q?a?="),
        Just("--=_"),
        Just("=0D=0A"),
        Just("\u{e9}"),
        Just("\u{2028}"),
        Just("\u{1f600}"),
        Just("abc"),
        Just("X-A: b"),
        Just("a@b.example"),
        Just("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
    ];
    prop_oneof![
        prop::collection::vec(piece, 0..25).prop_map(|pieces| pieces.concat()),
        any::<String>()
    ]
}

fn names(list: &[&address::Mailbox]) -> Vec<(Option<String>, String)> {
    let squeezed = |name: &String| name.split_whitespace().collect::<Vec<_>>().join(" ");
    list.iter()
        .map(|one| {
            (
                one.name
                    .as_ref()
                    .map(squeezed)
                    .filter(|name| !name.is_empty()),
                one.address.as_str().to_owned(),
            )
        })
        .collect()
}

fn parsed_names(list: Option<&Parsed<'_>>) -> Vec<(Option<String>, String)> {
    let squeezed = |name: &str| name.split_whitespace().collect::<Vec<_>>().join(" ");
    let one = |one: &mail_parser::Addr<'_>| {
        (
            one.name().map(squeezed).filter(|name| !name.is_empty()),
            one.address().unwrap_or_default().to_owned(),
        )
    };
    list.map(|list| list.iter().map(one).collect())
        .unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_the_door_accepts_is_a_mail_that_says_just_that(
        to_name in hostile(), from_name in hostile(), cc in hostile(), subject in hostile(), text in prop::option::of(hostile()),
        html in prop::option::of(hostile()), header_name in "[A-Za-z-]{1,64}|\\PC{1,9}", header_value in hostile(),
    ) {
        let json = serde_json::json!({
            "recipient": "r@example.com", "to": [format!("{to_name} <to@example.com>")], "from": format!("\"{from_name}\" <from@example.com>"),
            "cc": [format!("{cc}@example.com")], "subject": subject, "text": text, "html": html, "headers": {&header_name: header_value},
        });
        let Ok(mut mail) = serde_json::from_value::<EmailSend>(json) else { return Ok(()) };
        if mail.prepare(&defaults()).is_err() {
            return Ok(());
        }
        let built = build(ID, &mail, &BuildOptions::default()).unwrap();
        prop_assert!(built.is_ascii() || has_utf8_addresses(&mail));
        let parsed = MessageParser::default().parse(&built).unwrap();
        prop_assert_eq!(parsed.header_values("From").count() + parsed.header_values("To").count() + parsed.header_values("Bcc").count(), 2);
        let expected_headers = 9 + if mail.text.is_some() && mail.html.is_some() { 1 } else { 2 };
        prop_assert_eq!(parsed.headers().len(), expected_headers, "{}", String::from_utf8_lossy(&built));
        if built.is_ascii() {
            prop_assert_eq!(parsed_names(parsed.to()), names(&mail.to.iter().collect::<Vec<_>>()));
            prop_assert_eq!(parsed_names(parsed.from()), names(&mail.from.iter().collect::<Vec<_>>()));
        }
        prop_assert_eq!(parsed.return_address(), None);
        for (part, given) in [(parsed.text_bodies().next(), &mail.text), (parsed.html_bodies().next(), &mail.html)] {
            if let (Some(part), Some(given)) = (part, given) {
                let (read, given) = (part.text_contents().unwrap_or_default(), text::crlf(given));
                prop_assert_eq!(read.trim_end_matches("\r\n"), given.trim_end_matches("\r\n"));
            }
        }
    }
}
