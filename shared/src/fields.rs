//! Errors in somebody else's input, each named by a JSON pointer (RFC 6901), so that a caller can
//! mend the request without reading our code.

use serde::{Deserialize, Serialize};

/// One thing wrong with a request, e.g. `{"pointer": "/payload/to", "detail": "must not be empty"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FieldError {
    /// JSON pointer to the field, e.g. `/payload/subject`.
    pub pointer: String,
    /// What is wrong and what to do about it. Never repeats the value: it may be personal.
    pub detail: String,
}

impl FieldError {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
        }
    }

    /// The same error below `base`, e.g. `/subject` becomes `/payload/subject`.
    #[must_use]
    pub fn below(mut self, base: &str) -> Self {
        self.pointer.insert_str(0, base);
        self
    }
}

/// Parses JSON into `T`; an error names the field it happened at.
pub fn parse<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, FieldError> {
    // Following the path allocates for every field, so it is done for mistaken input alone.
    if let Ok(value) = serde_json::from_slice(json) {
        return Ok(value);
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        FieldError::new(pointer(error.path()), plain(&error.inner().to_string()))
    })?;
    reader
        .end()
        .map_err(|error| FieldError::new("", plain(&error.to_string())))?;
    Ok(value)
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                pointer.push('/');
                pointer.push_str(&index.to_string());
            }
            Segment::Map { key } | Segment::Enum { variant: key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Unknown => {}
        }
    }
    pointer
}

/// serde quotes the offending value (`invalid type: string "…"`); values may be personal data.
fn plain(message: &str) -> String {
    let message = message.split(" at line ").next().unwrap_or(message);
    let Some((before, rest)) = message.split_once(": string \"") else {
        return message.to_owned();
    };
    let after = rest.rfind("\", ").map_or("", |end| &rest[end + 1..]);
    format!("{before}: a string{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Mail {
        #[serde(rename = "to")]
        _to: Vec<u8>,
    }

    #[test]
    fn errors_name_the_field_and_hide_the_value() {
        let error = parse::<Mail>(br#"{"to":[1,"ada@example.com"]}"#).unwrap_err();
        assert_eq!(error.pointer, "/to/1");
        assert_eq!(error.detail, "invalid type: a string, expected u8");
        let error = parse::<Mail>(br#"{"to":[],"a/b":1}"#).unwrap_err();
        assert_eq!(error.pointer, "/a~1b");
        assert!(error.detail.starts_with("unknown field `a/b`"), "{error:?}");
        assert!(parse::<Mail>(b"{\"to\":[]} x").is_err());
    }
}
