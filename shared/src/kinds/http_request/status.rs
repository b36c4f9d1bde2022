//! Lists of HTTP statuses: single ones, such as 429, and classes, such as "5xx".

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusRule {
    Status(u16),
    /// The hundreds.
    Class(u16),
}

impl StatusRule {
    pub fn fits(self, status: u16) -> bool {
        match self {
            Self::Status(one) => status == one,
            Self::Class(hundreds) => status / 100 == hundreds,
        }
    }

    /// A status that can end an exchange: 200 to 599.
    fn parse(text: &str) -> Option<Self> {
        if let Some(hundreds) = text.strip_suffix("xx") {
            let hundreds = hundreds.parse().ok()?;
            return (2..=5).contains(&hundreds).then_some(Self::Class(hundreds));
        }
        let status = text.parse().ok()?;
        (200..=599)
            .contains(&status)
            .then_some(Self::Status(status))
    }
}

impl Serialize for StatusRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Status(status) => serializer.serialize_u16(*status),
            Self::Class(hundreds) => serializer.collect_str(&format_args!("{hundreds}xx")),
        }
    }
}

impl<'de> Deserialize<'de> for StatusRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = StatusRule;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status from 200 to 599, or a class from \"2xx\" to \"5xx\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                StatusRule::parse(text)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                StatusRule::parse(&number.to_string())
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_classes() {
        let rules: Vec<StatusRule> = serde_json::from_str(r#"[429,"503","5xx"]"#).unwrap();
        assert_eq!(serde_json::to_string(&rules).unwrap(), r#"[429,503,"5xx"]"#);
        assert!(rules[0].fits(429) && !rules[0].fits(428));
        assert!(rules[2].fits(599) && !rules[2].fits(499));
        for wrong in [
            r#"["1xx"]"#,
            r#"["6xx"]"#,
            "[199]",
            "[600]",
            "[-1]",
            "[1.5]",
            r#"["x"]"#,
            "[true]",
        ] {
            assert!(
                serde_json::from_str::<Vec<StatusRule>>(wrong).is_err(),
                "{wrong}"
            );
        }
    }
}
