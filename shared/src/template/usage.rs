//! A mail that is made of a template: which one, and with which values.

use super::{Compiled, Errors, Rendered, builtin, locale};
use crate::fields::FieldError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{fmt, sync::Arc};

/// Which template a mail is made of, and its values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = TemplateUse)]
pub struct Usage {
    /// Of a published template, or of one that Warren brings (`warren.welcome`, …).
    #[schema(example = "warren.welcome")]
    pub name: String,
    /// Filled in when the mail is accepted: later versions don't change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
    /// The recipient's (BCP 47); its nearest variant is used, or that of the template's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "zh-CN")]
    pub locale: Option<String>,
    /// By the names of the template's variables.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object, example = json!({"name": "Ada", "product": "Shop"}))]
    pub variables: Map<String, Value>,
}

/// A template that mails get now.
#[derive(Debug, Clone)]
pub struct Published {
    /// None: Warren brings it.
    pub version: Option<i32>,
    pub template: Arc<Compiled>,
}

/// Where published templates are found, without waiting.
pub trait Shelf: fmt::Debug + Send + Sync {
    fn stored(&self, name: &str) -> Option<Published>;

    fn find(&self, name: &str) -> Option<Published> {
        let own = builtin::find(name).map(|template| Published {
            version: None,
            template,
        });
        own.or_else(|| self.stored(name))
    }
}

/// Holds what Warren brings, and nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingStored;

impl Shelf for NothingStored {
    fn stored(&self, _name: &str) -> Option<Published> {
        None
    }
}

impl Usage {
    /// Finds the template, notes its version, and makes the mail, so that nothing can be missing when it is sent.
    ///
    /// # Errors
    /// By their pointers below this.
    pub fn prepare(&mut self, templates: &dyn Shelf) -> Result<Rendered, Errors> {
        let mut errors = Errors::new();
        if self
            .locale
            .as_deref()
            .is_some_and(|tag| !locale::is_locale(tag))
        {
            let detail = "must be a language tag (BCP 47), e.g. en or zh-Hant";
            errors.push(FieldError::new("/locale", detail));
        }
        let Some(Published { version, template }) = templates.find(&self.name) else {
            let detail = "is not the name of a published template";
            errors.push(FieldError::new("/name", detail));
            return Err(errors);
        };
        if self.version.is_some() && self.version != version {
            let detail = "is not the published version; leave it out";
            errors.push(FieldError::new("/version", detail));
        }
        self.version = version;
        // PostgreSQL has no NUL in its texts.
        for (name, value) in &self.variables {
            if name.contains('\0') || has_nul(value) {
                errors.push(FieldError::new("/variables", "must not contain NUL"));
                break;
            }
        }
        match template.render(self.locale.as_deref(), &self.variables) {
            Ok(rendered) if errors.is_empty() => Ok(rendered),
            Ok(_) => Err(errors),
            Err(wrong) => {
                errors.extend(wrong.into_iter().map(|error| error.below("/variables")));
                Err(errors)
            }
        }
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(list) => list.iter().any(has_nul),
        Value::Object(map) => map
            .iter()
            .any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn prepared(usage: Value) -> Result<Rendered, Vec<String>> {
        let mut usage: Usage = serde_json::from_value(usage).unwrap();
        let pointers = |errors: Errors| errors.into_iter().map(|error| error.pointer).collect();
        usage.prepare(&NothingStored).map_err(pointers)
    }

    #[test]
    fn a_mail_is_made_at_the_door() {
        let values = json!({"name": "Ada", "product": "Shop"});
        let mail = prepared(json!({"name": "warren.welcome", "variables": values})).unwrap();
        assert_eq!(mail.subject, "Welcome to Shop, Ada");
        let wrong = prepared(
            json!({"name": "warren.welcome", "version": 3, "locale": "x y", "variables": {"name": 1}}),
        );
        assert_eq!(
            wrong.unwrap_err(),
            [
                "/locale",
                "/version",
                "/variables/name",
                "/variables/product"
            ]
        );
        assert_eq!(prepared(json!({"name": "welcome"})).unwrap_err(), ["/name"]);
    }
}
