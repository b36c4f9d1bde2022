//! Templates that Warren brings along, in English and Chinese. Their names begin with `warren.`, which others may not.

use super::{Compiled, Content, Errors, Limits, Variable, VariableType, Variant};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

/// What the names of templates that Warren brings begin with.
pub const PREFIX: &str = "warren.";

/// A text, its variables, and its subject and Markdown by locale.
struct Source {
    name: &'static str,
    description: &'static str,
    variables: &'static [(&'static str, VariableType, bool, &'static str)],
    variants: [(&'static str, &'static str); 2],
}

use VariableType::{Integer, List, String as Text, Url};

static SOURCES: [Source; 5] = [
    Source {
        name: "warren.verification-code",
        description: "A code that proves that somebody reads an address",
        variables: &[
            ("code", Text, true, "The code, as it is to be typed in"),
            ("minutes", Integer, true, "How long it is valid"),
            ("purpose", Text, false, "What it is for, in words"),
            ("product", Text, false, "Who asks for it"),
            (
                "not_me_url",
                Url,
                false,
                "Where a recipient says that they did not ask for it",
            ),
        ],
        variants: [
            ("en", include_str!("builtin/verification-code.en.md")),
            ("zh", include_str!("builtin/verification-code.zh.md")),
        ],
    },
    Source {
        name: "warren.magic-link",
        description: "A link that proves that somebody reads an address",
        variables: &[
            ("url", Url, true, "The link"),
            ("minutes", Integer, true, "How long it is valid"),
            ("product", Text, false, "Who asks for it"),
            (
                "not_me_url",
                Url,
                false,
                "Where a recipient says that they did not ask for it",
            ),
        ],
        variants: [
            ("en", include_str!("builtin/magic-link.en.md")),
            ("zh", include_str!("builtin/magic-link.zh.md")),
        ],
    },
    Source {
        name: "warren.welcome",
        description: "To somebody who has signed up",
        variables: &[
            ("name", Text, true, "Of the person"),
            ("product", Text, true, "What they signed up for"),
            ("url", Url, false, "Where they begin"),
        ],
        variants: [
            ("en", include_str!("builtin/welcome.en.md")),
            ("zh", include_str!("builtin/welcome.zh.md")),
        ],
    },
    Source {
        name: "warren.report",
        description: "Figures, line by line",
        variables: &[
            ("title", Text, true, "Of the report"),
            ("summary", Text, false, "In a sentence or two"),
            ("rows", List, true, "Objects with name and value"),
            ("url", Url, false, "Where the whole report is"),
        ],
        variants: [
            ("en", include_str!("builtin/report.en.md")),
            ("zh", include_str!("builtin/report.zh.md")),
        ],
    },
    Source {
        name: "warren.alert",
        description: "Something needs somebody's attention",
        variables: &[
            ("title", Text, true, "What has happened"),
            ("severity", Text, true, "E.g. critical"),
            ("detail", Text, false, "What is known of it"),
            ("since", Text, false, "When it began"),
            ("url", Url, false, "Where to look"),
        ],
        variants: [
            ("en", include_str!("builtin/alert.en.md")),
            ("zh", include_str!("builtin/alert.zh.md")),
        ],
    },
];

/// One of them, ready to be rendered.
#[derive(Debug, Clone)]
pub struct BuiltIn {
    pub name: &'static str,
    pub description: &'static str,
    pub template: Arc<Compiled>,
}

/// All of them.
///
/// # Panics
/// Where one of this program's own texts has a mistake, which a test looks for.
pub fn all() -> &'static [BuiltIn] {
    static ALL: LazyLock<Vec<BuiltIn>> = LazyLock::new(|| {
        let made = |source: &Source| BuiltIn {
            name: source.name,
            description: source.description,
            template: Arc::new(
                source
                    .compile()
                    .unwrap_or_else(|errors| panic!("{}: {errors:?}", source.name)),
            ),
        };
        SOURCES.iter().map(made).collect()
    });
    &ALL
}

/// The one of that name.
pub fn find(name: &str) -> Option<Arc<Compiled>> {
    if !name.starts_with(PREFIX) {
        return None;
    }
    let found = all().iter().find(|one| one.name == name)?;
    Some(Arc::clone(&found.template))
}

impl Source {
    fn compile(&self) -> Result<Compiled, Errors> {
        let variable = |(name, kind, required, description): &(&str, VariableType, bool, &str)| {
            let variable = Variable {
                kind: *kind,
                required: Some(*required),
                default: None,
                example: None,
                description: Some((*description).to_owned()),
            };
            ((*name).to_owned(), variable)
        };
        let content = Content {
            default_locale: "en".into(),
            variables: self.variables.iter().map(variable).collect(),
            variants: self
                .variants
                .iter()
                .map(|(locale, text)| ((*locale).to_owned(), variant(text)))
                .collect::<BTreeMap<_, _>>(),
            layout: None,
        };
        let limits = Limits {
            max_bytes: usize::MAX,
        };
        Compiled::new(content, limits)
    }
}

/// The first line is the subject.
fn variant(text: &str) -> Variant {
    let (subject, markdown) = text.split_once('\n').unwrap_or((text, ""));
    Variant {
        subject: subject.to_owned(),
        markdown: Some(markdown.trim_start().to_owned()),
        ..Variant::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_is_whole_in_both_languages_with_and_without_what_may_be_missing() {
        let all_values = json!({
            "code": "492817", "minutes": 10, "purpose": "sign in", "product": "Shop",
            "not_me_url": "https://example.com/not-me", "name": "Ada", "url": "https://example.com/",
            "title": "A title", "summary": "A summary", "rows": [{"name": "Orders", "value": 7}],
            "severity": "critical", "detail": "A detail", "since": "08:00",
        });
        assert_eq!(all().len(), SOURCES.len());
        for (built_in, source) in all().iter().zip(&SOURCES) {
            assert!(built_in.name.starts_with(PREFIX));
            for only_required in [false, true] {
                let named = source
                    .variables
                    .iter()
                    .filter(|(_, _, required, _)| *required || !only_required);
                let values: serde_json::Map<_, _> = named
                    .map(|(name, ..)| ((*name).to_owned(), all_values[*name].clone()))
                    .collect();
                for locale in ["en", "zh-CN"] {
                    let mail = built_in.template.render(Some(locale), &values).unwrap();
                    let text = mail.text.unwrap();
                    assert!(mail.html.is_some() && !mail.subject.is_empty());
                    assert!(
                        !text.contains("None") && !text.contains("\n\n\n"),
                        "{}: {text}",
                        built_in.name
                    );
                    insta::assert_snapshot!(
                        format!("{}.{locale}.{only_required}", built_in.name),
                        format!("Subject: {}\n\n{text}", mail.subject)
                    );
                }
            }
        }
    }
}
