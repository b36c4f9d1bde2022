//! Which tasks an operator means: the same conditions as the list's, as a JSON object.

use crate::{
    endpoints::terms::{Time, check_tag},
    queries::tasks::Filter,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::{
    config::InputLimits,
    fields::FieldError,
    task::{Queue, Status},
};
use uuid::Uuid;

/// Longer than any kind's name.
pub(super) const LONGEST_KIND: usize = 100;
/// Longer than any error code.
pub(super) const LONGEST_CODE: usize = 100;

/// Conditions on tasks, combined with AND. At least one is needed.
#[derive(Debug, Clone, Default, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct TaskFilter {
    /// Any of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<Vec<Status>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "email.send")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    queue: Option<Queue>,
    /// All of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<String>>,
    /// The code of the latest error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    /// Of a group of `GET /dead-letters`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    /// Accepted at that time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<DateTime<Utc>>)]
    created_after: Option<Time>,
    /// Accepted before that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<DateTime<Utc>>)]
    created_before: Option<Time>,
}

impl TaskFilter {
    /// As JSON, for the audit log: tags are callers' own texts, which may be personal, so they are only counted.
    pub(super) fn without_texts(&self) -> serde_json::Result<serde_json::Value> {
        let mut value = serde_json::to_value(self)?;
        if let Some(tags) = &self.tags {
            value["tags"] = tags.len().into();
        }
        Ok(value)
    }

    /// The filter over tasks that are in one of the states that an operation is for: `usual` when none is named. Errors
    /// are added to `errors`.
    pub(super) fn check(
        &self,
        possible: &[Status],
        usual: &[Status],
        limits: &InputLimits,
        errors: &mut Vec<FieldError>,
    ) -> Filter {
        let mut error = |pointer: &str, detail: String| {
            errors.push(FieldError::new(format!("/filter{pointer}"), detail));
        };
        if serde_json::to_value(self).is_ok_and(|value| value == serde_json::json!({})) {
            let detail = "must name at least one condition, e.g. {\"status\": [\"FAILED\"]}";
            error("", detail.to_owned());
        }
        let statuses = match self.status.as_deref() {
            None => usual.to_vec(),
            Some(statuses) => statuses.to_vec(),
        };
        if statuses.is_empty() || statuses.iter().any(|status| !possible.contains(status)) {
            let possible: Vec<_> = possible.iter().map(|status| status.as_str()).collect();
            error("/status", format!("must be of {}", possible.join(", ")));
        }
        let tags = self.tags.clone().unwrap_or_default();
        if self.tags.as_ref().is_some_and(Vec::is_empty) {
            error(
                "/tags",
                "must name at least one tag, or be left out".to_owned(),
            );
        }
        if tags.len() > limits.max_tags {
            error(
                "/tags",
                format!("must be at most {} (limits.max_tags)", limits.max_tags),
            );
        }
        for (index, tag) in tags.iter().enumerate() {
            if let Err(detail) = check_tag(tag, limits) {
                error(&format!("/tags/{index}"), detail);
            }
        }
        for (pointer, text, longest) in [
            ("/kind", &self.kind, LONGEST_KIND),
            ("/error_code", &self.error_code, LONGEST_CODE),
            ("/fingerprint", &self.fingerprint, LONGEST_CODE),
        ] {
            if text
                .as_deref()
                .is_some_and(|text| !(1..=longest).contains(&text.len()) || text.contains('\0'))
            {
                error(pointer, format!("must be 1 to {longest} bytes"));
            }
        }
        Filter {
            statuses,
            kind: self.kind.clone(),
            queue: self.queue,
            tags,
            error_code: self.error_code.clone(),
            fingerprint: self.fingerprint.clone(),
            from: self.created_after.map(|time| first_id(time.0)),
            below: self.created_before.map(|time| first_id(time.0)),
            ended_by: None,
        }
    }
}

/// The lowest id of a task accepted in that millisecond or later: a UUIDv7 begins with its time.
pub(super) fn first_id(time: DateTime<Utc>) -> Uuid {
    // A time between two milliseconds is after the first of them.
    let is_between = !time.timestamp_subsec_nanos().is_multiple_of(1_000_000);
    let millis = u64::try_from(time.timestamp_millis())
        .unwrap_or(0)
        .saturating_add(u64::from(is_between))
        .min((1 << 48) - 1);
    Uuid::from_u128(u128::from(millis) << 80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared::config::Config;

    fn pointers(json: &str) -> Vec<String> {
        let filter: TaskFilter = serde_json::from_str(json).unwrap();
        let mut errors = Vec::new();
        let limits = Config::with(&[]).unwrap().limits;
        let _filter = filter.check(&[Status::Failed], &[Status::Failed], &limits, &mut errors);
        errors.into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn a_filter_says_something_that_is_possible() {
        assert_eq!(pointers("{}"), ["/filter"]);
        assert!(pointers(r#"{"status":["FAILED"],"kind":"email.send"}"#).is_empty());
        assert_eq!(
            pointers(r#"{"status":["COMPLETED"],"tags":["a",""],"kind":"","fingerprint":""}"#),
            [
                "/filter/status",
                "/filter/tags/1",
                "/filter/kind",
                "/filter/fingerprint"
            ]
        );
        assert_eq!(pointers(r#"{"status":[]}"#), ["/filter/status"]);
        assert_eq!(pointers(r#"{"tags":[]}"#), ["/filter/tags"]);
        assert!(serde_json::from_str::<TaskFilter>(r#"{"colour":"red"}"#).is_err());
    }

    proptest! {
        #[test]
        fn times_bound_ids(millis in 0_i64..4_000_000_000_000, other in 0_i64..4_000_000_000_000) {
            let time = DateTime::from_timestamp_millis(other).unwrap();
            let id = uuid::Builder::from_unix_timestamp_millis(millis.unsigned_abs(), &[0; 10]).into_uuid();
            prop_assert_eq!(id >= first_id(time), millis >= other);
        }
    }
}
