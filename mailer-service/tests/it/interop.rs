//! Mails as others take and read them: handed to Postfix, read by Python's email package, their signatures by dkimpy.

use crate::{
    attachments::{Folder, in_base64, noise},
    dkim::{key, python, verified},
    world::{LONG, World},
};
use mailer_service::smtp::dkim::Signers;
use serde_json::{Value, json};
use shared::files::FileId;
use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};
use testkit::services::Postfix;

fn relay(postfix: &Postfix) -> Vec<(&'static str, String)> {
    vec![
        ("mail.relays.default.host", "localhost".into()),
        ("mail.relays.default.port", postfix.port.to_string()),
        ("mail.relays.default.tls", "starttls".into()),
        ("mail.relays.default.username", postfix.user.clone()),
        ("mail.relays.default.password", postfix.password.clone()),
        (
            "mail.relays.default.ca_file",
            postfix.ca_file.display().to_string(),
        ),
    ]
}

fn shown<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    let each = settings.iter();
    each.map(|(key, value)| (*key, value.as_str())).collect()
}

/// What Python finds in the mails.
fn read(mails: &[PathBuf]) -> Vec<Value> {
    let mut python = Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/read_mails.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    stdin
        .write_all(json!(mails).to_string().as_bytes())
        .unwrap();
    drop(stdin);
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Sends it, and returns the one task's end.
async fn send(world: &World, mail: &Value) -> Value {
    let (status, answer) = world.post("/emails", mail).await;
    assert_eq!(status, 202, "{answer}");
    let id = answer["id"].as_str().unwrap().to_owned();
    world
        .env
        .wait_until(LONG, "the mail's end", async || {
            !world.task(&id).await["finished_at"].is_null()
        })
        .await;
    world.task(&id).await
}

async fn delivered(world: &World, postfix: &Postfix, count: usize) -> Vec<PathBuf> {
    world
        .env
        .wait_until(LONG, "Postfix to deliver", async || {
            postfix.mails().len() >= count
        })
        .await;
    postfix.mails()
}

/// Everything that is hard to get across: dots, long lines, letters of all sorts, five megabytes.
fn hard_mails(large: &[u8]) -> Vec<Value> {
    let dots = ".\r\n..\n.dot\n\n. \n.\n";
    let long = "long lines ".repeat(2000);
    vec![
        json!({"to": "Ada <ada@interop.test>", "subject": "dots", "text": dots}),
        json!({"to": "ada@interop.test", "subject": "long", "text": long, "html": format!("<p>{long}</p>")}),
        json!({"to": "Jörg Müller <j@interop.test>", "from": "\"Größe, GmbH\" <shop@example.com>", "text": "Schöne Grüße 👋\n",
            "subject": "Eine lange Betreffzeile mit Umlauten: äöüß, 日本語のテキスト и по-русски, damit sie umgebrochen wird 👋👋"}),
        json!({"to": "jörg@interop.test", "subject": "utf8", "text": "x\n"}),
        json!({"to": "ada@interop.test", "subject": "files", "text": "See below\n", "html": "<img src=\"cid:logo\">",
        "attachments": [
            {"filename": "Größe – 大.pdf", "content": in_base64(large)},
            {"filename": "logo.png", "content": in_base64(b"not really"), "content_id": "logo"},
        ]}),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_takes_what_python_reads() {
    let postfix = Postfix::start("warren-postfix").await.unwrap();
    let folder = Folder::new("interop");
    let mut settings = relay(&postfix);
    settings.extend([
        ("files.url", folder.url()),
        ("http.max_body_bytes", "20000000".into()),
        ("mail.dkim.one.domain", "example.com".into()),
        ("mail.dkim.one.selector", "ed".into()),
        ("mail.dkim.one.key_file", key("ed25519")),
        ("mail.dkim.two.domain", "example.com".into()),
        ("mail.dkim.two.selector", "rsa".into()),
        ("mail.dkim.two.key_file", key("rsa")),
    ]);
    let world = World::started("interop_postfix", &shown(&settings)).await;
    let records = Signers::new(&world.config().mail.dkim).unwrap().records();
    let large = noise(5 * 1024 * 1024);
    let mails = hard_mails(&large);
    for mail in &mails {
        let task = send(&world, mail).await;
        assert_eq!(task["status"], "COMPLETED", "{task}\n{}", postfix.log());
    }
    let paths = delivered(&world, &postfix, mails.len()).await;
    let found: BTreeMap<String, (Value, PathBuf)> = read(&paths)
        .into_iter()
        .zip(paths)
        .map(|(mail, path)| (mail["subject"].as_str().unwrap().to_owned(), (mail, path)))
        .collect();
    for (sent, (mail, path)) in mails
        .iter()
        .map(|sent| (sent, &found[sent["subject"].as_str().unwrap()]))
    {
        // To Python's package letters beyond ASCII are a defect, also where RFC 6532 has them.
        let is_other = |defect: &&Value| {
            let defect = defect.as_str().unwrap();
            sent["subject"] != "utf8"
                || !(defect.contains("NonASCII") || defect.contains("Non-ASCII"))
        };
        let defects = mail["defects"].as_array().unwrap();
        assert_eq!(defects.iter().find(is_other), None, "{mail}");
        let received = mail["received"].as_str().unwrap();
        assert!(
            received.contains("using TLSv1.3") && received.contains("SMTPSA"),
            "{received}"
        );
        let lines = |text: &Value| {
            text.as_str()
                .unwrap_or_default()
                .replace("\r\n", "\n")
                .trim_end()
                .to_owned()
        };
        assert_eq!(lines(&mail["text"]), lines(&sent["text"]));
        assert_eq!(lines(&mail["html"]), lines(&sent["html"]));
        // A mailbox has the lines of its machine; what is before the signature is Postfix's.
        let raw = fs::read(path).unwrap();
        let raw = String::from_utf8(raw).unwrap().replace('\n', "\r\n");
        assert_eq!(
            verified(raw.as_bytes(), &records),
            [true, true],
            "{}",
            mail["subject"]
        );
    }
    let (utf8, _) = &found["utf8"];
    assert!(utf8["received"].as_str().unwrap().contains("UTF8SMTPSA"));
    assert_eq!(utf8["to"], "jörg@interop.test");
    let names = &found[mails[2]["subject"].as_str().unwrap()].0;
    assert_eq!(names["from"], "\"Größe, GmbH\" <shop@example.com>");
    let (files, _) = &found["files"];
    assert_eq!(
        files["structure"],
        json!([
            "multipart/mixed",
            "multipart/alternative",
            "text/plain",
            "multipart/related",
            "text/html",
            "image/png",
            "application/pdf"
        ])
    );
    assert_eq!(
        files["files"],
        json!([
            {"filename": "logo.png", "type": "image/png", "disposition": "inline", "id": "<logo>", "sha256": FileId::of(b"not really").as_str()},
            {"filename": "Größe – 大.pdf", "type": "application/pdf", "disposition": "attachment", "id": null, "sha256": FileId::of(&large).as_str()},
        ])
    );

    // Larger than its SIZE: it is not even begun.
    let larger = json!({"to": "ada@interop.test", "subject": "larger", "text": "x",
        "attachments": [{"filename": "a.bin", "content": in_base64(&noise(8_000_000))}]});
    let task = send(&world, &larger).await;
    assert_eq!(
        (&task["status"], &task["error"]["code"]),
        (&json!("FAILED"), &json!("smtp_message_too_large")),
        "{task}"
    );
    assert_eq!(postfix.mails().len(), mails.len());
    world.finish().await;
    postfix.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_takes_many_mails_and_no_wrong_password() {
    let postfix = Postfix::start("warren-postfix-many").await.unwrap();
    let mut settings = relay(&postfix);
    settings.push(("mail.relays.default.connections", "4".into()));
    let world = World::started("interop_many", &shown(&settings)).await;
    let many: Vec<_> = (0..200)
        .map(|n| json!({"to": format!("r{n}@interop.test"), "subject": format!("mail {n}"), "text": "x"}))
        .collect();
    let (status, answer) = world.post("/emails/batch", &json!({"emails": many})).await;
    assert_eq!((status.as_u16(), &answer["accepted"]), (202, &json!(200)));
    let paths = delivered(&world, &postfix, 200).await;
    let subjects: std::collections::BTreeSet<_> = read(&paths)
        .into_iter()
        .map(|mail| mail["subject"].to_string())
        .collect();
    assert_eq!((paths.len(), subjects.len()), (200, 200));
    // Over connections that stay.
    let connections = postfix.log().matches(": connect from").count();
    assert!((1..=6).contains(&connections), "{connections}");
    world.finish().await;

    settings.push(("mail.relays.default.password", "wrong".into()));
    let world = World::started("interop_password", &shown(&settings)).await;
    let id = world.mail("ada@interop.test", json!({})).await;
    world.wait_for(&id, "RETRYING").await;
    assert_eq!(world.task(&id).await["error"]["code"], "smtp_auth_failed");
    world.finish().await;
    postfix.stop().await.unwrap();
}
