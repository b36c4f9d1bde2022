//! What a mail is for. It decides how soon the mail goes, whom it is kept from, and how long its content stays.

use serde::{Deserialize, Serialize};

/// The categories; names are wire forms.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
#[schema(as = EmailCategory)]
pub enum Category {
    /// Something that its recipient waits for: a receipt, a report.
    #[default]
    Transactional,
    /// Codes, links to log in, warnings: first in line, and the content is gone once the mail is.
    Security,
    /// What its recipient can be without: it can be unsubscribed from.
    Marketing,
}

impl Category {
    pub const ALL: [Self; 3] = [Self::Transactional, Self::Security, Self::Marketing];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transactional => "transactional",
            Self::Security => "security",
            Self::Marketing => "marketing",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }

    /// For serde: what needs no saying.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
