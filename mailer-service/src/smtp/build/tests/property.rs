//! Whatever the door lets in makes a mail, and only the mail it says.

use super::*;
use mail_parser::Address as Parsed;
use proptest::prelude::*;

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

/// The same for fields of one line, mostly without what the door refuses in them.
fn line() -> impl Strategy<Value = String> {
    let clean = hostile().prop_map(|text| text.chars().filter(|c| !c.is_control()).collect());
    prop_oneof![9 => clean, 1 => hostile()]
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
        to_name in line(),
        from_name in line(),
        cc in "[a-z]{1,9}|\\PC{1,3}",
        subject in line(),
        text in prop::option::of(hostile()),
        html in prop::option::of(hostile()),
        header_name in "[A-Za-z-]{1,64}|\\PC{1,9}",
        header_value in line(),
    ) {
        let json = serde_json::json!({
            "recipient": "r@example.com", "to": [format!("{to_name} <to@example.com>")], "from": format!("\"{from_name}\" <from@example.com>"),
            "cc": [format!("{cc}@example.com")], "subject": subject, "text": text, "html": html, "headers": {&header_name: header_value},
        });
        let Ok(mut mail) = serde_json::from_value::<EmailSend>(json) else { return Ok(()) };
        if mail.prepare(&defaults()).is_err() {
            return Ok(());
        }
        let built = build(ID, &mail, NONE, None, &BuildOptions::default()).unwrap();
        prop_assert!(built.is_ascii() || has_utf8_addresses(&mail));
        let parsed = MessageParser::default().parse(&built).unwrap();
        prop_assert_eq!(parsed.header_values("From").count() + parsed.header_values("To").count() + parsed.header_values("Bcc").count(), 2);
        let expected_headers = 9 + if mail.text.is_some() && mail.html.is_some() { 1 } else { 2 };
        prop_assert_eq!(parsed.headers().len(), expected_headers, "{}", String::from_utf8_lossy(&built));
        if built.is_ascii() {
            prop_assert_eq!(parsed_names(parsed.to()), names(&mail.to.iter().collect::<Vec<_>>()));
            prop_assert_eq!(parsed_names(parsed.from()), names(&mail.from.iter().collect::<Vec<_>>()));
        }
        for (part, given) in [(parsed.text_bodies().next(), &mail.text), (parsed.html_bodies().next(), &mail.html)] {
            if let (Some(part), Some(given)) = (part, given) {
                let (read, given) = (part.text_contents().unwrap_or_default(), text::crlf(given));
                prop_assert_eq!(read.trim_end_matches("\r\n"), given.trim_end_matches("\r\n"));
            }
        }
    }
}
