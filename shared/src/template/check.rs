//! Whether a template's content has the form that it needs, before it is compiled.

use super::{
    Content, Errors, Limits, Variant, locale, slots,
    values::{self, pointer},
};
use crate::fields::FieldError;

const MOST_VARIABLES: usize = 100;
const MOST_VARIANTS: usize = 100;
const LONGEST_NAME: usize = 64;

pub(super) fn check(content: &Content, limits: Limits) -> Errors {
    let mut errors = Errors::new();
    let bytes = content.layout.as_ref().map_or(0, String::len)
        + content.variants.values().map(bytes).sum::<usize>();
    if bytes > limits.max_bytes {
        let detail = format!(
            "has {bytes} bytes in its texts, more than the {} allowed (mail.max_template_bytes)",
            limits.max_bytes
        );
        errors.push(FieldError::new("", detail));
    }
    variables(content, &mut errors);
    variants(content, &mut errors);
    if let Some(layout) = &content.layout {
        text("/layout", layout, &mut errors);
    }
    errors
}

fn bytes(variant: &Variant) -> usize {
    let parts = [&variant.markdown, &variant.html, &variant.text];
    let parts = parts.into_iter().flatten().map(String::len);
    variant.subject.len() + parts.sum::<usize>()
}

fn variables(content: &Content, errors: &mut Errors) {
    if content.variables.len() > MOST_VARIABLES {
        let detail = format!("must be at most {MOST_VARIABLES}");
        errors.push(FieldError::new("/variables", detail));
    }
    for (name, variable) in &content.variables {
        let at = format!("/variables{}", pointer(name));
        if !is_name(name) {
            let detail = format!(
                "must be called by a letter and then letters, digits and _, at most {LONGEST_NAME}, and by no word of the template language"
            );
            errors.push(FieldError::new(&at, detail));
        }
        if variable.default.is_some() && variable.required == Some(true) {
            let detail = "must not be given for a variable that is required";
            errors.push(FieldError::new(format!("{at}/default"), detail));
        }
        for (field, value) in [
            ("default", &variable.default),
            ("example", &variable.example),
        ] {
            let wrong = value
                .as_ref()
                .map(|value| values::check(variable.kind, value));
            if let Some(Err(detail)) = wrong {
                errors.push(FieldError::new(format!("{at}/{field}"), detail));
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    // What the language has itself.
    const TAKEN: [&str; 17] = [
        "true", "false", "none", "True", "False", "None", "and", "or", "not", "in", "is", "if",
        "else", "loop", "content", "subject", "locale",
    ];
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.len() <= LONGEST_NAME
        && !TAKEN.contains(&name)
}

fn variants(content: &Content, errors: &mut Errors) {
    if !(1..=MOST_VARIANTS).contains(&content.variants.len()) {
        let detail = format!("must be 1 to {MOST_VARIANTS}");
        errors.push(FieldError::new("/variants", detail));
    }
    let names = || content.variants.keys().map(String::as_str);
    let default = &content.default_locale;
    if !names().any(|name| name == default) {
        let detail = "must be one of the variants";
        errors.push(FieldError::new("/default_locale", detail));
    }
    for (name, variant) in &content.variants {
        let at = format!("/variants{}", pointer(name));
        if !locale::is_locale(name) {
            let detail = "must be called by a language tag (BCP 47), e.g. en or zh-Hant";
            errors.push(FieldError::new(&at, detail));
        }
        let twice = names().filter(|other| other.eq_ignore_ascii_case(name));
        if twice.count() > 1 {
            let detail = "differs from another one in upper and lower case alone";
            errors.push(FieldError::new(&at, detail));
        }
        parts(&at, variant, errors);
    }
}

fn parts(at: &str, variant: &Variant, errors: &mut Errors) {
    if variant.subject.trim().is_empty() {
        errors.push(FieldError::new(
            format!("{at}/subject"),
            "must not be empty",
        ));
    }
    if variant.markdown.is_some() && variant.html.is_some() {
        let detail = "must not be given together with markdown, which makes the HTML part";
        errors.push(FieldError::new(format!("{at}/html"), detail));
    }
    if variant.markdown.is_none() && variant.html.is_none() && variant.text.is_none() {
        let detail = "markdown, html or text is needed";
        errors.push(FieldError::new(format!("{at}/markdown"), detail));
    }
    text(&format!("{at}/subject"), &variant.subject, errors);
    let named = [
        ("markdown", &variant.markdown),
        ("html", &variant.html),
        ("text", &variant.text),
    ];
    for (name, part) in named {
        if let Some(part) = part {
            text(&format!("{at}/{name}"), part, errors);
        }
    }
}

fn text(at: &str, text: &str, errors: &mut Errors) {
    if text.contains('\0') {
        errors.push(FieldError::new(at, "must not contain NUL"));
    }
    if slots::has_mark(text) {
        let detail = "must not contain wrnslot, which stands for values in the making";
        errors.push(FieldError::new(at, detail));
    }
}
