use super::*;
use serde_json::json;

const LIMITS: Limits = Limits {
    max_bytes: 256 * 1024,
};

fn compiled(content: Value) -> Result<Compiled, Errors> {
    let content = serde_json::from_value(content).unwrap();
    Compiled::new(content, LIMITS)
}

/// One variant of Markdown, with the variable `name` and another one of the given type.
fn with_markdown(markdown: &str, kind: &str) -> Compiled {
    let variables = json!({"name": {"type": "string"}, "more": {"type": kind, "required": false}, "url": {"type": "url", "required": false}});
    let variants = json!({"en": {"subject": "Hello {{ name }}", "markdown": markdown}});
    compiled(json!({"default_locale": "en", "variables": variables, "variants": variants})).unwrap()
}

fn render(template: &Compiled, values: &Value) -> Result<Rendered, Errors> {
    template.render(None, values.as_object().unwrap())
}

#[test]
fn a_value_stays_text() {
    let template = with_markdown("# Hi {{ name }}\n\n{{ more }}", "string");
    for name in [
        "[x](https://evil.example)",
        "<a href=\"https://evil.example\">x</a>",
        "![x](https://evil.example/x.png)",
        "**bold** `code` https://evil.example",
        "{{ 7 * 7 }}{% raw %}",
        "wrnslot0z wrnslot1z",
    ] {
        let done = render(&template, &json!({"name": name, "more": name})).unwrap();
        assert_eq!(done.subject, format!("Hello {name}"));
        assert_eq!(done.text.unwrap(), format!("Hi {name}\n\n{name}\n"));
        let html = done.html.unwrap();
        assert!(
            !html.contains("<a ") && !html.contains("<img") && !html.contains("<strong"),
            "{html}"
        );
        let shown = mail_text(&html);
        assert!(shown.contains(&format!("Hi {name}")), "{shown}");
    }
    let done = render(&template, &json!({"name": "a\r\nBcc: eve@example.com"})).unwrap();
    assert_eq!(done.subject, "Hello a Bcc: eve@example.com");
}

/// The tags of an HTML text, in their order, with what is in them.
fn tags(html: &str) -> Vec<&str> {
    let pieces = html.split('<').skip(1);
    pieces
        .map(|piece| piece.split('>').next().unwrap())
        .collect()
}

#[test]
fn no_hostile_value_changes_a_mails_form() {
    let template = with_markdown(
        "# Hi {{ name }}\n\n- {{ name }}\n\n[More]({{ url }}) **{{ name }}** `{{ name }}`\n\n{{ name }}",
        "string",
    );
    let of = |name: &str| {
        render(
            &template,
            &json!({"name": name, "url": "https://example.com/a"}),
        )
    };
    let plain = of("Ada").unwrap();
    for line in include_str!("../../tests/corpus/hostile.jsonl").lines() {
        let name: String = serde_json::from_str(line).unwrap();
        // What can't be in a mail at all is refused as a value.
        let Ok(made) = of(&name) else {
            assert!(name.contains('\0'), "{line}");
            continue;
        };
        assert!(!made.subject.contains(char::is_control), "{line}");
        assert_eq!(
            tags(made.html.as_ref().unwrap()),
            tags(plain.html.as_ref().unwrap()),
            "{line}"
        );
    }
}

/// What a reader of the HTML sees, roughly.
fn mail_text(html: &str) -> String {
    let body = html.split("<div").nth(1).unwrap();
    let mut text = String::new();
    let mut in_tag = true;
    for c in body.chars() {
        match c {
            '<' => in_tag = true,
            '>' => in_tag = false,
            c if !in_tag => text.push(c),
            _ => {}
        }
    }
    let plain = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ];
    plain
        .into_iter()
        .fold(text, |text, (entity, plain)| text.replace(entity, plain))
}

#[test]
fn links_lead_where_a_url_says() {
    let template = with_markdown("[Open, {{ name }}]({{ more }})", "url");
    let done = render(
        &template,
        &json!({"name": "Ada", "more": "https://example.com/?a=1&b=2"}),
    )
    .unwrap();
    let html = done.html.unwrap();
    assert!(
        html.contains("href=\"https://example.com/?a=1&amp;b=2\""),
        "{html}"
    );
    assert_eq!(
        done.text.unwrap(),
        "Open, Ada <https://example.com/?a=1&b=2>\n"
    );
    let errors = render(
        &template,
        &json!({"name": "Ada", "more": "javascript:alert(1)"}),
    )
    .unwrap_err();
    assert_eq!(errors[0].pointer, "/more");
    // A string that stands there is looked at all the same.
    let template = with_markdown("[Open]({{ more }})", "string");
    let errors = render(
        &template,
        &json!({"name": "Ada", "more": "javascript:alert(1)"}),
    )
    .unwrap_err();
    assert!(
        errors[0].detail.contains("declare the variable as url"),
        "{errors:?}"
    );
}

#[test]
fn styles_are_put_into_the_tags() {
    let html = render(
        &with_markdown("# A\n\ntext", "string"),
        &json!({"name": "Ada"}),
    )
    .unwrap()
    .html
    .unwrap();
    assert!(html.contains("<h1 style=\"margin: 0 0 16px"), "{html}");
    assert!(
        html.contains("<html lang=\"en\">") && html.contains("<title>Hello Ada</title>"),
        "{html}"
    );
    assert!(
        !html.contains("wrnslot") && !html.contains("wrncontent"),
        "{html}"
    );
}

#[test]
fn the_same_turn_is_made_once_and_another_is_another() {
    let template = with_markdown(
        "{% if more %}more: {{ more }}{% else %}none{% endif %}",
        "integer",
    );
    let text = |values: &Value| render(&template, values).unwrap().text.unwrap();
    for number in 1..4 {
        assert_eq!(
            text(&json!({"name": "Ada", "more": number})),
            format!("more: {number}\n")
        );
    }
    assert_eq!(text(&json!({"name": "Ada"})), "none\n");
}

#[test]
fn lists_and_objects_are_gone_through() {
    let template = with_markdown(
        "| Item | Price |\n|---|---|\n{% for line in more %}| {{ line.name | upper }} | {{ line.price }} |\n{% endfor %}",
        "list",
    );
    let lines = json!([{"name": "a|b", "price": 1.5}, {"name": "<i>", "price": 2}]);
    let done = render(&template, &json!({"name": "Ada", "more": lines})).unwrap();
    assert_eq!(done.text.unwrap(), "Item  Price\nA|B  1.5\n<I>  2\n");
    let errors = render(&template, &json!({"name": "Ada", "more": [{"name": "x"}]})).unwrap_err();
    assert!(
        errors[0].detail.contains("markdown") && errors[0].detail.contains("undefined"),
        "{errors:?}"
    );
    let errors = render(
        &with_markdown("{{ more }}", "object"),
        &json!({"name": "x", "more": {}}),
    )
    .unwrap_err();
    assert!(
        errors[0].detail.contains("name one of its fields"),
        "{errors:?}"
    );
}

#[test]
fn what_an_author_puts_together_keeps_its_values_apart() {
    let template = with_markdown(
        "{% macro bold(x) %}**{{ x }}**{% endmacro %}{% set greeting %}Dear {{ name }}{% endset %}{{ greeting }}, {{ bold(name) }}",
        "string",
    );
    let done = render(&template, &json!({"name": "*Ada*"})).unwrap();
    assert_eq!(done.text.unwrap(), "Dear *Ada*, *Ada*\n");
    assert!(done.html.unwrap().contains(">*Ada*</strong>"));
}

#[test]
fn no_template_runs_for_ever() {
    let template = with_markdown(
        "{% for a in range(1000) %}{% for b in range(1000) %}x{% endfor %}{% endfor %}",
        "string",
    );
    let errors = render(&template, &json!({"name": "Ada"})).unwrap_err();
    assert!(errors[0].detail.contains("fuel"), "{errors:?}");
}

#[test]
fn a_small_request_makes_no_huge_mail() {
    let template = with_markdown("{% for one in more %}{{ name }}{% endfor %}", "list");
    let values = json!({"name": "x".repeat(50_000), "more": vec![0; 1000]});
    let errors = render(&template, &values).unwrap_err();
    assert!(errors[0].detail.contains("4194304 bytes"), "{errors:?}");
}

#[test]
fn a_template_that_has_examples_is_tried_at_once() {
    let with = |text: &str, example: Value| {
        compiled(json!({
            "default_locale": "en",
            "variables": {
                "name": {"type": "string", "example": example},
                "note": {"type": "string", "required": false},
            },
            "variants": {"en": {"subject": "Hi", "text": text}},
        }))
    };
    assert!(with("{{ name }}", json!("Ada")).is_ok());
    for (text, example, place) in [
        ("{{ name | safe }}", json!("Ada"), "/variants/en"),
        ("{{ name.first }}", json!("Ada"), "/variants/en"),
        ("{{ name }}", json!(7), "/variables/name/example"),
    ] {
        let errors = with(text, example).unwrap_err();
        assert_eq!(errors[0].pointer, place, "{errors:?}");
    }
}

#[test]
fn the_recipient_s_language_is_spoken() {
    let template = compiled(json!({
        "default_locale": "en",
        "variants": {
            "en": {"subject": "Hello", "text": "Hello"},
            "zh": {"subject": "你好", "text": "你好"},
            "zh-Hant": {"subject": "您好", "text": "您好"},
        },
    }))
    .unwrap();
    for (wanted, locale) in [
        (Some("zh-CN"), "zh"),
        (Some("zh-Hant-TW"), "zh-Hant"),
        (Some("fr"), "en"),
        (None, "en"),
    ] {
        let done = template.render(wanted, &serde_json::Map::new()).unwrap();
        assert_eq!(done.locale, locale);
        assert!(done.html.is_none());
    }
}

#[test]
fn mistakes_of_an_author_are_named() {
    let errors = compiled(json!({
        "default_locale": "de",
        "variables": {"1st": {"type": "string"}, "count": {"type": "integer", "default": "x"}},
        "variants": {
            "en": {"subject": "{{ nmae }}", "markdown": "{% if count %}", "html": "x"},
            "no_tag": {"subject": " ", "text": "x"},
        },
        "layout": "<p>nothing</p>",
    }))
    .unwrap_err();
    let mut places: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(
        places,
        [
            "/default_locale",
            "/layout",
            "/variables/1st",
            "/variables/count/default",
            "/variants/en/html",
            "/variants/en/markdown",
            "/variants/en/subject",
            "/variants/no_tag",
            "/variants/no_tag/subject",
        ],
        "{errors:#?}"
    );
}
