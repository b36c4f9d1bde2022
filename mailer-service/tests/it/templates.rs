//! Mails that are made of templates, at the SMTP server.

use crate::world::{LONG, World};
use serde_json::{Value, json};

fn content(subject: &str) -> Value {
    json!({"content": {
        "default_locale": "en",
        "variables": {"name": {"type": "string"}, "url": {"type": "url"}},
        "variants": {
            "en": {"subject": format!("{subject}, {{{{ name }}}}"), "markdown": "# Hi {{ name }}\n\n[Look]({{ url }})"},
            "zh": {"subject": "{{ name }}，你好", "markdown": "# {{ name }}，你好\n\n[看]({{ url }})"},
        },
    }})
}

async fn publish(world: &World, subject: &str) {
    world.put("/templates/hello", &content(subject)).await;
    let (status, _) = world.post("/templates/hello/publish", &json!({})).await;
    assert_eq!(status, 200);
}

async fn send(world: &World, to: &str, more: &Value) -> String {
    let mut usage = json!({"name": "hello", "variables": {"name": "<Ada>", "url": "https://example.com/?a=1&b=2"}});
    usage
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().cloned().unwrap());
    let (status, mail) = world
        .post("/emails", &json!({"to": to, "template": usage}))
        .await;
    assert_eq!(status, 202, "{mail}");
    mail["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_mail_is_made_of_the_version_that_it_was_accepted_with() {
    let mut world = World::without_mailer("templates_mail", &[]).await;
    publish(&world, "One").await;
    let first = send(&world, "first@example.com", &json!({})).await;
    publish(&world, "Two").await;
    let second = send(
        &world,
        "second@example.com",
        &json!({"locale": "zh-Hans-CN"}),
    )
    .await;
    let third = send(&world, "third@example.com", &json!({"locale": "fr"})).await;
    world.delete("/templates/hello").await;
    world.start_mailer();
    for (id, to, subject, link) in [
        (&first, "first@example.com", "One, <Ada>", "Look"),
        (&second, "second@example.com", "<Ada>，你好", "看"),
        (&third, "third@example.com", "Two, <Ada>", "Look"),
    ] {
        world.wait_for(id, "COMPLETED").await;
        let mail = world
            .inbox
            .wait_for_recipient(to, LONG)
            .await
            .unwrap()
            .parsed();
        assert_eq!(mail.subject, subject);
        assert!(
            mail.text
                .contains(&format!("{link} <https://example.com/?a=1&b=2>"))
        );
        let html = mail.html;
        assert!(
            html.contains("&lt;Ada&gt;")
                && html.contains("href=\"https://example.com/?a=1&amp;b=2\""),
            "{html}"
        );
    }
    world.finish().await;
}

#[tokio::test]
async fn without_a_database_a_mail_waits_for_its_template() {
    let mut world = World::without_mailer("templates_missing", &[]).await;
    publish(&world, "One").await;
    let id = send(&world, "ada@example.com", &json!({})).await;
    // As if somebody had tidied up by hand.
    world
        .env
        .execute("alter table template_versions rename to away")
        .await;
    world.start_mailer();
    let task = world.wait_for(&id, "RETRYING").await;
    assert_eq!(task["error"]["code"], "template_unavailable", "{task}");
    world
        .env
        .execute("alter table away rename to template_versions")
        .await;
    world.wait_for(&id, "COMPLETED").await;
    assert_eq!(world.inbox.count(), 1);
    world.finish().await;
}

#[tokio::test]
async fn what_warren_brings_is_sent_too() {
    let world = World::new("templates_built_in").await;
    let body = json!({"to": "ada@example.com", "template": {"name": "warren.welcome", "locale": "zh",
        "variables": {"name": "Ada", "product": "Shop"}}});
    let (_, mail) = world.post("/emails", &body).await;
    world
        .wait_for(mail["id"].as_str().unwrap(), "COMPLETED")
        .await;
    let mail = world
        .inbox
        .wait_for_recipient("ada@example.com", LONG)
        .await
        .unwrap();
    assert_eq!(mail.parsed().subject, "Ada，欢迎使用 Shop");
    world.finish().await;
}
