//! Files that go with mails, from the request to the recipient's mail program.

use crate::world::{LONG, World};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use mail_parser::{MessageParser, MimeHeaders as _};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

/// A folder of the test's own.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("warren-{name}-{}", uuid::Uuid::now_v7()));
        Self(path)
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.0.display())
    }

    /// The files in it.
    fn files(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten());
        files.flatten().map(|file| file.path()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn in_base64(content: &[u8]) -> String {
    BASE64_STANDARD.encode(content)
}

/// Bytes that no encoding leaves alone.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

async fn upload(world: &World, content: Vec<u8>) -> Value {
    let (status, answer) = world.upload(content).await;
    assert_eq!(status, 201, "{answer}");
    answer
}

#[tokio::test]
async fn files_arrive_as_they_were_and_are_kept_once() {
    let folder = Folder::new("attach");
    let world = World::started("attach_whole", &[("files.url", &folder.url())]).await;
    let large = noise(3_000_000);
    let uploaded = upload(&world, large.clone()).await;
    assert_eq!(uploaded["size"], 3_000_000);
    assert_eq!(upload(&world, large.clone()).await["id"], uploaded["id"]);
    let picture = noise(5000);
    let mail = json!({
        "to": ["ada@example.com", "bob@example.com"], "subject": "Files", "text": "See below.\n.\n",
        "html": "<p>See <img src=\"cid:logo@1\"></p>",
        "attachments": [
            {"filename": "Rechnung März 2026.pdf", "file": uploaded["id"]},
            {"filename": "logo.png", "content": in_base64(&picture), "content_id": "logo@1"},
            {"filename": "notes.txt", "content_type": "text/plain", "content": in_base64(b"one\ntwo\r\n.\n")},
            {"filename": "empty", "content": ""},
        ],
    });
    let (status, answer) = world.post("/emails", &mail).await;
    assert_eq!(status, 202, "{answer}");
    for recipient in ["ada@example.com", "bob@example.com"] {
        let mail = world
            .inbox
            .wait_for_recipient(recipient, LONG)
            .await
            .unwrap();
        let parsed = MessageParser::default().parse(&mail.raw).unwrap();
        assert_eq!(parsed.body_text(0).unwrap().trim_end(), "See below.\r\n.");
        let files: Vec<_> = parsed
            .attachments()
            .map(|part| {
                let kind = part.content_type().unwrap();
                (
                    part.attachment_name().unwrap().to_owned(),
                    format!("{}/{}", kind.ctype(), kind.subtype().unwrap()),
                    part.contents().to_vec(),
                )
            })
            .collect();
        let expected = [
            ("logo.png", "image/png", picture.clone()),
            ("Rechnung März 2026.pdf", "application/pdf", large.clone()),
            ("notes.txt", "text/plain", b"one\ntwo\r\n.\n".to_vec()),
            ("empty", "application/octet-stream", Vec::new()),
        ];
        for ((name, kind, content), file) in expected.into_iter().zip(&files) {
            assert_eq!((file.0.as_str(), file.1.as_str()), (name, kind));
            assert!(file.2 == content, "{name}");
        }
        assert_eq!(files.len(), 4);
        let shown = parsed
            .attachments()
            .find_map(|part| part.content_id())
            .unwrap();
        assert_eq!(shown, "logo@1");
    }
    assert_eq!(folder.files().len(), 4);
    let shown = world
        .get(&format!("/emails/{}", answer["id"].as_str().unwrap()))
        .await;
    assert_eq!(shown["attachments"][0]["size"], 3_000_000);

    // In a batch, those with a mistake are named.
    let note = json!({"filename": "notes.txt", "content": in_base64(b"note")});
    let one = |to: &str, attachment: Value| json!({"to": to, "subject": "x", "text": "y", "attachments": [attachment]});
    let gone = json!({"filename": "a.pdf", "file": "0".repeat(64)});
    let mut batch = json!({"emails": [one("cid@example.com", note), one("dan@example.com", gone)]});
    let (status, refused) = world.post("/emails/batch", &batch).await;
    assert_eq!(
        (status.as_u16(), &refused["errors"][0]["pointer"]),
        (422, &json!("/emails/1/attachments/0/file"))
    );
    batch["mode"] = json!("partial");
    let (_, answer) = world.post("/emails/batch", &batch).await;
    assert_eq!(
        (&answer["accepted"], &answer["rejected"]),
        (&json!(1), &json!(1))
    );
    let mail = world
        .inbox
        .wait_for_recipient("cid@example.com", LONG)
        .await
        .unwrap();
    assert_eq!(mail.parsed().attachments.len(), 1);
    world.finish().await;
}

/// Attachments, what is named, and a part of what is said.
fn mistakes() -> Vec<(Value, &'static str, &'static str)> {
    let content = in_base64(b"x");
    let half = in_base64(&[0; 999]);
    let file = |fields: Value| {
        let mut file = json!({"filename": "a.txt", "content": content});
        file.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        file
    };
    vec![
        (
            json!([file(json!({"filename": "run.EXE"}))]),
            "/attachments/0/filename",
            ".exe are refused",
        ),
        (
            json!([file(json!({"filename": "a/b"}))]),
            "/attachments/0/filename",
            "without folders",
        ),
        (
            json!([file(json!({"content": "%%"}))]),
            "/attachments/0/content",
            "must be base64",
        ),
        (
            json!([file(json!({"content": in_base64(&[0; 1001])}))]),
            "/attachments/0/content",
            "files.max_bytes",
        ),
        (
            json!([file(json!({"content_type": "message/rfc822"}))]),
            "/attachments/0/content_type",
            "must not be",
        ),
        (
            json!([file(json!({"file": "0".repeat(64)}))]),
            "/attachments/0",
            "either content or file",
        ),
        (
            json!([{"filename": "a"}]),
            "/attachments/0",
            "either content or file",
        ),
        (
            json!([{"filename": "a", "file": "x"}]),
            "/attachments/0/file",
            "id of an upload",
        ),
        (
            json!([{"filename": "a", "file": "0".repeat(64)}]),
            "/attachments/0/file",
            "is no upload",
        ),
        (
            json!([
                file(json!({"content_id": "a"})),
                file(json!({"content_id": "a"}))
            ]),
            "/attachments/1/content_id",
            "another one",
        ),
        (
            json!([file(json!({"content_id": "<a>"}))]),
            "/attachments/0/content_id",
            "must be",
        ),
        (
            json!([
                file(json!({"content": half})),
                file(json!({"content": half})),
                file(json!({}))
            ]),
            "/attachments",
            "files.max_mail_bytes",
        ),
        (
            json!([
                file(json!({})),
                file(json!({})),
                file(json!({})),
                file(json!({}))
            ]),
            "/attachments",
            "files.max_per_mail",
        ),
    ]
}

#[tokio::test]
async fn files_with_a_mistake_are_named() {
    let folder = Folder::new("mistakes");
    let settings = [
        ("files.url", folder.url()),
        ("files.max_bytes", "1000".into()),
        ("files.max_mail_bytes", "6000".into()),
        ("files.max_per_mail", "3".into()),
    ];
    let settings: Vec<_> = settings
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    let world = World::started("attach_wrong", &settings).await;
    for (attachments, pointer, detail) in mistakes() {
        let mail = json!({"to": "ada@example.com", "subject": "x", "text": "y", "attachments": attachments});
        let (status, answer) = world.post("/emails", &mail).await;
        let error = &answer["errors"][0];
        assert_eq!(
            (status.as_u16(), &error["pointer"]),
            (422, &json!(pointer)),
            "{answer}"
        );
        assert!(
            error["detail"].as_str().unwrap().contains(detail),
            "{answer}"
        );
    }
    let (status, answer) = world.upload(vec![0; 1001]).await;
    assert_eq!(
        (status, answer["type"].as_str()),
        (413, Some("/problems/body-too-large"))
    );
    let payload = json!({"to": "a@example.com", "subject": "x", "text": "y", "attachments": [{"file": "0".repeat(64), "filename": "a", "content_type": "a/b", "size": 1}]});
    let (status, answer) = world
        .post("/tasks", &json!({"kind": "email.send", "payload": payload}))
        .await;
    assert_eq!(
        (status.as_u16(), &answer["errors"][0]["pointer"]),
        (422, &json!("/payload/attachments"))
    );
    assert_eq!(world.env.sql::<i64>("select count(*) from tasks").await, 0);
    world.finish().await;
}

#[tokio::test]
async fn without_a_place_for_files_there_are_none() {
    let world = World::without_mailer("attach_none", &[]).await;
    let mail = json!({"to": "ada@example.com", "subject": "x", "text": "y", "attachments": [{"filename": "a", "content": ""}]});
    let (_, answer) = world.post("/emails", &mail).await;
    assert!(
        answer["errors"][0]["detail"]
            .as_str()
            .unwrap()
            .contains("files.url"),
        "{answer}"
    );
    let (status, answer) = world.upload(vec![1]).await;
    assert_eq!(
        (status, answer["type"].as_str()),
        (501, Some("/problems/not-configured"))
    );
    world.finish().await;
}

#[tokio::test]
async fn files_stay_as_long_as_a_task_needs_them() {
    let folder = Folder::new("keep");
    let settings = [
        ("files.url", folder.url()),
        ("retention.every_s", "1".into()),
    ];
    let settings: Vec<_> = settings
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    let world = World::started("attach_keep", &settings).await;
    upload(&world, b"unused".to_vec()).await;
    let send = async |category: &str, content: &str| {
        let mail = json!({"to": "ada@example.com", "subject": "x", "text": "y", "category": category,
            "attachments": [{"filename": "a.txt", "content": in_base64(content.as_bytes())}]});
        let (_, answer) = world.post("/emails", &mail).await;
        let id = answer["id"].as_str().unwrap().to_owned();
        world.wait_for(&id, "COMPLETED").await;
        id
    };
    let kept = send("transactional", "kept").await;
    send("security", "secret").await;
    assert_eq!(folder.files().len(), 3);
    let old = "update files set used_at = now() - interval '25 hours'";
    world.env.execute(old).await;
    world
        .env
        .wait_until(LONG, "the unused ones to be deleted", async || {
            folder.files().len() == 1
        })
        .await;
    assert_eq!(fs::read(&folder.files()[0]).unwrap(), b"kept");
    // It is sent again.
    world
        .env
        .execute(&format!(
            "update tasks set status = 'FAILED' where id = '{kept}'"
        ))
        .await;
    world
        .post(&format!("/tasks/{kept}/retry"), &json!({}))
        .await;
    world.inbox.wait_for_count(3, LONG).await.unwrap();
    world.wait_for(&kept, "COMPLETED").await;

    // What is not what it was is not sent.
    let other = send("transactional", "gone").await;
    for file in folder.files() {
        if fs::read(&file).unwrap() == b"gone" {
            fs::write(file, "else").unwrap();
        }
    }
    // The worker's own copy would do; another worker has none.
    let mut world = world;
    world.stop_mailer().await;
    world.start_mailer();
    world
        .env
        .execute(&format!(
            "update tasks set status = 'FAILED' where id = '{other}'"
        ))
        .await;
    world
        .post(&format!("/tasks/{other}/retry"), &json!({}))
        .await;
    world
        .env
        .wait_until(LONG, "the failure", async || {
            world.task(&other).await["error"]["code"] == "file_gone"
        })
        .await;
    world
        .env
        .execute("delete from task_files; update files set used_at = now() - interval '25 hours'")
        .await;
    world
        .env
        .wait_until(LONG, "all to be deleted", async || {
            folder.files().is_empty()
        })
        .await;
    world.finish().await;
}
