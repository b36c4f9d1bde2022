//! `[users]`: people who sign up.

use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Users {
    /// Empty: no mail.
    pub welcome_template: String,
    pub url: String,
}

impl Users {
    /// Which key can't be as it is, and why.
    pub(super) fn mistake(&self) -> Option<(&'static str, &'static str)> {
        let is_url = |text: &str| {
            url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
        };
        (!self.url.is_empty() && !is_url(&self.url))
            .then_some(("users.url", "must be an http or https URL, or empty"))
    }
}
