//! Templates of mails: what a version of one consists of, which values it takes, and how they are put into it.
//!
//! A caller's value is text wherever it stands: it can't become Markdown, HTML, a header or another link than the author
//! of the template meant. The engine prints a mark in place of each value ([`slots`]); Markdown, layout and styles are
//! worked out around the marks, and only then are they replaced, each escaped for the place where it stands. What is worked
//! out is the same for all mails that take the same turns through a template, so it is kept, and a mail costs little more
//! than putting its values in.

pub mod builtin;
mod check;
mod engine;
mod locale;
mod markdown;
mod slots;
mod usage;
mod values;

pub use engine::Compiled;
pub use locale::is_locale;
pub use usage::{NothingStored, Published, Shelf, Usage};

use crate::fields::FieldError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a version of a template consists of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = TemplateContent)]
pub struct Content {
    /// The locale (BCP 47) for recipients whose own has no variant.
    #[schema(example = "en")]
    pub default_locale: String,
    /// The values that a mail may, or must, bring.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Variable>,
    /// By locale (BCP 47).
    pub variants: BTreeMap<String, Variant>,
    /// HTML around what Markdown makes: a whole document, with styles in `<style>`. `{{ content }}` stands for it,
    /// `{{ subject }}` and `{{ locale }}` may be used too. Left out: Warren's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
}

/// A template in one language. Each text is a Jinja template.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = TemplateVariant)]
pub struct Variant {
    pub subject: String,
    /// `CommonMark` with tables: makes the HTML part, under the layout, and the text part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub markdown: Option<String>,
    /// The HTML part, a whole document, instead of `markdown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// The text part; when left out, it is made from `markdown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A value that a template takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = TemplateVariable)]
pub struct Variable {
    #[serde(rename = "type")]
    pub kind: VariableType,
    /// Whether each mail must bring it; true when left out, unless there is a `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    /// For mails that don't bring it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// For previews. A template whose required variables all have one is tried with them whenever it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<Value>,
    /// For those who fill it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl Variable {
    pub fn is_required(&self) -> bool {
        self.required.unwrap_or(self.default.is_none())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TemplateVariableType)]
pub enum VariableType {
    String,
    Integer,
    Number,
    Boolean,
    /// `https://…`, `http://…` or `mailto:…`; the only type that may be where a link leads.
    Url,
    /// A list of values of any kind.
    List,
    /// An object, whose fields the template reads as `{{ order.number }}`.
    Object,
}

/// A mail's texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = RenderedTemplate)]
pub struct Rendered {
    /// The locale of the variant that was used.
    pub locale: String,
    pub subject: String,
    pub text: Option<String>,
    pub html: Option<String>,
}

/// How large a template may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of all its texts together.
    pub max_bytes: usize,
}

/// What is wrong with a template or with a mail's values, each by its pointer below the content or below the values.
pub type Errors = Vec<FieldError>;

#[cfg(test)]
mod tests;
