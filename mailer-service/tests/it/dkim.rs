//! Signed mails, as they arrive, before a verifier that nobody here wrote.

use crate::world::{LONG, World};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use mailer_service::smtp::dkim::Signers;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::Write as _,
    process::{Command, Stdio},
};

pub(crate) fn key(name: &str) -> String {
    format!("{}/tests/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"))
}

/// A Python that has dkimpy: the distribution's, whose packages `make test` installs, or another one.
pub(crate) fn python() -> &'static str {
    let has_it = |python: &&str| {
        let mut import = Command::new(python);
        import
            .args(["-c", "import dkim, nacl"])
            .stderr(Stdio::null());
        import.status().is_ok_and(|status| status.success())
    };
    ["/usr/bin/python3", "python3"]
        .into_iter()
        .find(has_it)
        .expect("no python3 with dkimpy: install the Debian packages python3-dkim and python3-nacl (`make test` does), or by pip dkimpy and pynacl")
}

/// What dkimpy says of each signature.
pub(crate) fn verified(mail: &[u8], records: &BTreeMap<String, String>) -> Vec<bool> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dkim_verify.py");
    let mut python = Command::new(python())
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let given = json!({"mail": BASE64_STANDARD.encode(mail), "records": records});
    let mut stdin = python.stdin.take().unwrap();
    stdin.write_all(given.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_signature_holds_and_none_survives_a_change() {
    let (ed25519, rsa) = (key("ed25519"), key("rsa"));
    let settings = [
        ("mail.dkim.one.domain", "example.com"),
        ("mail.dkim.one.selector", "ed.2026"),
        ("mail.dkim.one.key_file", ed25519.as_str()),
        ("mail.dkim.two.domain", "Example.com"),
        ("mail.dkim.two.selector", "rsa2026"),
        ("mail.dkim.two.key_file", rsa.as_str()),
        ("mail.dkim.other.domain", "example.org"),
        ("mail.dkim.other.selector", "s"),
        ("mail.dkim.other.key_file", rsa.as_str()),
    ];
    let mut world = World::without_mailer("dkim_signed", &settings).await;
    let records = Signers::new(&world.config().mail.dkim).unwrap().records();
    world.start_mailer();
    let body: Value = json!({
        "to": "ada@example.net",
        "from": "Größe <shop@news.example.com>",
        "subject": "Eine  Rechnung – mit doppelten  Leerzeichen, und so lang, dass die Zeile umgebrochen werden muss",
        "text": "two  spaces \n\n.leading dot\n\nend \n\n\n",
        "html": format!("<p>{}</p>", "long ".repeat(400)),
        "headers": {"X-Campaign": "spring"},
    });
    world.post("/emails", &body).await;
    let mail = world
        .inbox
        .wait_for_recipient("ada@example.net", LONG)
        .await
        .unwrap();
    let text = String::from_utf8(mail.raw.to_vec()).unwrap();
    assert!(text.starts_with("DKIM-Signature:"), "{text}");
    assert_eq!(verified(&mail.raw, &records), [true, true], "{text}");
    for (what, changed) in [
        ("the body", text.replace("leading dot", "leading dots")),
        ("the subject", text.replace("Subject: ", "Subject: Re: ")),
        (
            "a second subject",
            text.replacen("MIME-Version", "Subject: cheap\r\nMIME-Version", 1),
        ),
        (
            "a second sender",
            text.replacen("MIME-Version", "From: eve@example.com\r\nMIME-Version", 1),
        ),
    ] {
        assert_ne!(changed, text, "{what}");
        assert_eq!(
            verified(changed.as_bytes(), &records),
            [false, false],
            "{what}"
        );
    }
    // What relays do on the way.
    let folded = text.replacen("To: ", "To:\r\n ", 1) + "\r\n\r\n";
    assert_eq!(verified(folded.as_bytes(), &records), [true, true]);
    world.finish().await;
}

#[tokio::test]
async fn of_a_domain_without_a_key_nothing_is_signed() {
    let ed25519 = key("ed25519");
    let settings = [
        ("mail.dkim.one.domain", "example.org"),
        ("mail.dkim.one.selector", "s"),
        ("mail.dkim.one.key_file", ed25519.as_str()),
    ];
    let mut world = World::without_mailer("dkim_unsigned", &settings).await;
    world.start_mailer();
    world.mail("ada@example.net", json!({})).await;
    let mail = world
        .inbox
        .wait_for_recipient("ada@example.net", LONG)
        .await
        .unwrap();
    assert_eq!(mail.header("DKIM-Signature"), None);
    world.finish().await;
}
