//! What is wrong with a request, and where.

use serde::Serialize;
use shared::fields::FieldError;

/// One thing wrong with a request, and where: a field of the body, a query parameter or a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Flaw {
    /// JSON pointer (RFC 6901) to a field of the body, e.g. `/payload/subject`; empty: the whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// The name of a query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// The name of a header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<&'static str>,
    /// What is wrong and what to do about it.
    pub detail: String,
}

impl Flaw {
    fn at(detail: String) -> Self {
        Self {
            pointer: None,
            parameter: None,
            header: None,
            detail,
        }
    }

    pub fn parameter(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            parameter: Some(name.into()),
            ..Self::at(detail.into())
        }
    }

    pub fn header(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            header: Some(name),
            ..Self::at(detail.into())
        }
    }
}

impl From<FieldError> for Flaw {
    fn from(error: FieldError) -> Self {
        Self {
            pointer: Some(error.pointer),
            ..Self::at(error.detail)
        }
    }
}
