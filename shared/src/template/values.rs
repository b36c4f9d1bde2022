//! A mail's values against what its template declares.

use super::{Errors, Variable, VariableType};
use crate::fields::FieldError;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The values that the template sees: those given, the defaults, and null for what may be missing.
pub(super) fn complete(
    declared: &BTreeMap<String, Variable>,
    given: &Map<String, Value>,
) -> Result<Map<String, Value>, Errors> {
    let mut errors = Errors::new();
    for name in given.keys().filter(|name| !declared.contains_key(*name)) {
        let detail = "is not a variable of this template";
        errors.push(FieldError::new(pointer(name), detail));
    }
    let mut all = Map::new();
    for (name, variable) in declared {
        let value = match given.get(name).filter(|value| !value.is_null()) {
            Some(value) => {
                if let Err(detail) = check(variable.kind, value) {
                    errors.push(FieldError::new(pointer(name), detail));
                }
                value.clone()
            }
            None if variable.is_required() => {
                let detail = format!("is needed: {}", variable.kind.expected());
                errors.push(FieldError::new(pointer(name), detail));
                Value::Null
            }
            None => variable.default.clone().unwrap_or(Value::Null),
        };
        all.insert(name.clone(), value);
    }
    if errors.is_empty() {
        Ok(all)
    } else {
        Err(errors)
    }
}

pub(super) fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

pub(super) fn check(kind: VariableType, value: &Value) -> Result<(), String> {
    let fits = match kind {
        VariableType::String => value.is_string(),
        VariableType::Integer => value.is_i64() || value.is_u64(),
        VariableType::Number => value.is_number(),
        VariableType::Boolean => value.is_boolean(),
        VariableType::Url => value.as_str().is_some_and(is_link),
        VariableType::List => value.is_array(),
        VariableType::Object => value.is_object(),
    };
    if fits {
        Ok(())
    } else {
        Err(format!("must be {}", kind.expected()))
    }
}

/// Where a link may lead.
pub(super) fn is_link(text: &str) -> bool {
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return false;
    }
    url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "https" | "http" | "mailto"))
}

impl VariableType {
    fn expected(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Integer => "an integer",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::Url => "a URL that begins with https://, http:// or mailto:",
            Self::List => "a list",
            Self::Object => "an object",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn links_lead_to_the_web_or_to_a_mailbox() {
        for good in ["https://example.com/a?b=c#d", "mailto:ada@example.com"] {
            assert!(is_link(good), "{good}");
        }
        for bad in [
            "javascript:alert(1)",
            "data:text/html,x",
            "//evil.example",
            "/path",
            "https://a b",
            "java\nscript:x",
            "",
        ] {
            assert!(!is_link(bad), "{bad}");
        }
    }

    #[test]
    fn each_wrong_value_is_named() {
        let declared: BTreeMap<String, Variable> = serde_json::from_value(json!({
            "name": {"type": "string"},
            "count": {"type": "integer", "default": 3},
            "note": {"type": "string", "required": false},
            "link": {"type": "url"},
        }))
        .unwrap();
        let of = |given: Value| complete(&declared, given.as_object().unwrap());
        assert_eq!(
            of(json!({"name": "Ada", "link": "https://example.com"})).unwrap(),
            *json!({"count": 3, "link": "https://example.com", "name": "Ada", "note": null})
                .as_object()
                .unwrap()
        );
        let wrong = of(json!({"name": 1, "count": 1.5, "nmae": "x"})).unwrap_err();
        let places: Vec<_> = wrong.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(places, ["/nmae", "/count", "/link", "/name"]);
        assert_eq!(wrong[3].detail, "must be a string");
    }
}
