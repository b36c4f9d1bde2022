//! What every request for work can say: priority, times and tags. Checked here against the limits of the
//! configuration, each error with its field, its remedy and the key of its limit.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use shared::{config::InputLimits, fields::FieldError, task::Priority};

/// RFC 3339 with any offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time(pub(super) DateTime<Utc>);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_time(&text).map(Self).ok_or_else(|| {
            de::Error::custom(
                "must be a time of RFC 3339 with its offset, e.g. 2030-01-31T08:00:00Z",
            )
        })
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.to_rfc3339())
    }
}

/// A time of RFC 3339, or none.
pub(super) fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|time| time.to_utc())
}

/// The parts of a request that are the same for every kind of work.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) priority: Option<i64>,
    pub(super) run_at: Option<Time>,
    /// Seconds from now, instead of `run_at`.
    pub(super) delay: Option<i64>,
    pub(super) useful_until: Option<Time>,
    pub(super) tags: Vec<String>,
    pub(super) limit_key: Option<String>,
    /// Seconds.
    pub(super) result_ttl: Option<i64>,
}

/// Those parts, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) priority: Priority,
    pub(super) run_at: Option<DateTime<Utc>>,
    pub(super) useful_until: Option<DateTime<Utc>>,
    pub(super) tags: Vec<String>,
    pub(super) limit_key: Option<String>,
    pub(super) result_ttl_s: Option<i32>,
}

impl Asked {
    /// Checks everything; errors are added to `errors`.
    pub(super) fn check(
        self,
        limits: &InputLimits,
        now: DateTime<Utc>,
        errors: &mut Vec<FieldError>,
    ) -> Terms {
        let run_at = start(self.run_at, self.delay, limits, now, errors);
        let useful_until = self.useful_until.map(|time| time.0);
        check_times(run_at, useful_until, limits, now, errors);
        Terms {
            priority: priority(self.priority, errors),
            run_at,
            useful_until,
            tags: tags(self.tags, limits, errors),
            limit_key: limit_key(self.limit_key, errors),
            result_ttl_s: result_ttl(self.result_ttl, limits, errors),
        }
    }
}

fn priority(asked: Option<i64>, errors: &mut Vec<FieldError>) -> Priority {
    let Some(asked) = asked else {
        return Priority::DEFAULT;
    };
    u8::try_from(asked)
        .ok()
        .and_then(Priority::new)
        .unwrap_or_else(|| {
            errors.push(FieldError::new(
                "/priority",
                "must be 0 (lowest) to 9 (highest)",
            ));
            Priority::DEFAULT
        })
}

/// The longest name of a limit, in bytes.
pub(super) const MAX_LIMIT_KEY: usize = 200;

fn limit_key(asked: Option<String>, errors: &mut Vec<FieldError>) -> Option<String> {
    let asked = asked?;
    let fits = (1..=MAX_LIMIT_KEY).contains(&asked.len());
    if !fits || asked.contains('*') || asked.chars().any(char::is_control) {
        let detail = format!("must be 1 to {MAX_LIMIT_KEY} bytes without * and control characters");
        errors.push(FieldError::new("/limit_key", detail));
        return None;
    }
    Some(asked)
}

fn result_ttl(
    asked: Option<i64>,
    limits: &InputLimits,
    errors: &mut Vec<FieldError>,
) -> Option<i32> {
    let asked = asked?;
    let most = i64::from(limits.max_schedule_days) * 86_400;
    let seconds = i32::try_from(asked)
        .ok()
        .filter(|_| (0..=most).contains(&asked));
    if seconds.is_none() {
        let detail = format!("must be 0 to {most} seconds (limits.max_schedule_days)");
        errors.push(FieldError::new("/result_ttl", detail));
    }
    seconds
}

/// When the work may begin, as asked for by a time or by a delay.
pub(super) fn start(
    run_at: Option<Time>,
    delay: Option<i64>,
    limits: &InputLimits,
    now: DateTime<Utc>,
    errors: &mut Vec<FieldError>,
) -> Option<DateTime<Utc>> {
    let run_at = run_at.map(|time| time.0);
    let Some(delay) = delay else { return run_at };
    if run_at.is_some() {
        let detail = "must not be given together with run_at, which says the same";
        errors.push(FieldError::new("/delay", detail));
    }
    let most = i64::from(limits.max_schedule_days) * 86_400;
    if (0..=most).contains(&delay) {
        return Some(now + TimeDelta::seconds(delay));
    }
    let detail = format!("must be 0 to {most} seconds (limits.max_schedule_days)");
    errors.push(FieldError::new("/delay", detail));
    None
}

pub(super) fn check_times(
    run_at: Option<DateTime<Utc>>,
    useful_until: Option<DateTime<Utc>>,
    limits: &InputLimits,
    now: DateTime<Utc>,
    errors: &mut Vec<FieldError>,
) {
    let furthest = now + TimeDelta::days(limits.max_schedule_days.into());
    for (pointer, time) in [("/run_at", run_at), ("/useful_until", useful_until)] {
        // A task may stay useful for as long again after the furthest time it can be scheduled for.
        let latest = if pointer == "/run_at" {
            furthest
        } else {
            furthest + (furthest - now)
        };
        if time.is_some_and(|time| time > latest) {
            errors.push(FieldError::new(
                pointer,
                format!(
                    "must be before {}; run_at may lie {} days ahead (limits.max_schedule_days)",
                    latest.format("%Y-%m-%d"),
                    limits.max_schedule_days
                ),
            ));
        }
    }
    let start = run_at.map_or(now, |run_at| run_at.max(now));
    if useful_until.is_some_and(|until| until <= start) {
        let detail = if start == now {
            "must lie in the future, or no worker could start in time"
        } else {
            "must be after run_at, or no worker could start in time"
        };
        errors.push(FieldError::new("/useful_until", detail));
    }
}

fn tags(asked: Vec<String>, limits: &InputLimits, errors: &mut Vec<FieldError>) -> Vec<String> {
    if asked.len() > limits.max_tags {
        errors.push(FieldError::new(
            "/tags",
            format!("must be at most {} (limits.max_tags)", limits.max_tags),
        ));
        return Vec::new();
    }
    let mut tags: Vec<String> = Vec::with_capacity(asked.len());
    for (index, tag) in asked.into_iter().enumerate() {
        if let Err(detail) = check_tag(&tag, limits) {
            errors.push(FieldError::new(format!("/tags/{index}"), detail));
        } else if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    tags
}

/// A tag is a short text without control characters.
pub(super) fn check_tag(tag: &str, limits: &InputLimits) -> Result<(), String> {
    if !(1..=limits.max_tag_bytes).contains(&tag.len()) || tag.chars().any(char::is_control) {
        return Err(format!(
            "must be 1 to {} bytes without control characters (limits.max_tag_bytes)",
            limits.max_tag_bytes
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> InputLimits {
        shared::config::Config::with(&[]).unwrap().limits
    }

    fn time(text: &str) -> Time {
        Time(parse_time(text).unwrap())
    }

    fn check(asked: Asked) -> (Terms, Vec<String>) {
        let mut errors = Vec::new();
        let terms = asked.check(&limits(), time("2026-01-01T00:00:00Z").0, &mut errors);
        (
            terms,
            errors.into_iter().map(|error| error.pointer).collect(),
        )
    }

    #[test]
    fn any_offset_is_the_same_time() {
        let times: Vec<Time> =
            serde_json::from_str(r#"["2026-01-01T10:00:00+09:30","2026-01-01T00:30:00.000Z","2025-12-31t19:30:00-05:00"]"#).unwrap();
        assert!(times.iter().all(|one| *one == times[0]));
        for wrong in [
            "\"2026-01-01\"",
            "\"2026-01-01T00:00:00\"",
            "1767225600",
            "\"tomorrow\"",
        ] {
            assert!(serde_json::from_str::<Time>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_possible_is_taken() {
        let (terms, errors) = check(Asked {
            priority: Some(9),
            run_at: Some(time("2020-01-01T00:00:00Z")),
            delay: None,
            useful_until: Some(time("2026-01-01T00:00:01Z")),
            tags: vec!["a".into(), "é".into(), "a".into()],
            ..Asked::default()
        });
        assert!(errors.is_empty());
        assert_eq!(terms.tags, ["a", "é"]);
        assert_eq!(check(Asked::default()).0.priority, Priority::DEFAULT);
    }

    #[test]
    fn a_delay_is_a_time() {
        let (terms, errors) = check(Asked {
            delay: Some(90),
            ..Asked::default()
        });
        assert!(errors.is_empty());
        assert_eq!(terms.run_at, Some(time("2026-01-01T00:01:30Z").0));
        for (run_at, delay) in [
            (None, -1),
            (None, i64::MAX),
            (Some(time("2026-01-02T00:00:00Z")), 1),
        ] {
            let (_, errors) = check(Asked {
                run_at,
                delay: Some(delay),
                ..Asked::default()
            });
            assert_eq!(errors, ["/delay"]);
        }
    }

    #[test]
    fn what_is_not_is_named() {
        let (_, errors) = check(Asked {
            priority: Some(10),
            run_at: Some(time("2027-06-01T00:00:00Z")),
            delay: None,
            useful_until: Some(time("2027-05-01T00:00:00Z")),
            tags: vec![String::new(), "ok".into(), "x".repeat(65), "a\0".into()],
            limit_key: Some("tenant:*".into()),
            result_ttl: Some(-1),
        });
        assert_eq!(
            errors,
            [
                "/run_at",
                "/useful_until",
                "/priority",
                "/tags/0",
                "/tags/2",
                "/tags/3",
                "/limit_key",
                "/result_ttl"
            ]
        );
        let (_, errors) = check(Asked {
            useful_until: Some(time("2026-01-01T00:00:00Z")),
            tags: vec!["t".into(); 11],
            ..Asked::default()
        });
        assert_eq!(errors, ["/useful_until", "/tags"]);
    }
}
