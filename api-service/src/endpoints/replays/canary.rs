//! The terms of a careful replay, as a part of `POST /tasks/retry`.

use serde::{Deserialize, Serialize};
use shared::{config::InputLimits, fields::FieldError};

const TIMEOUT_S: i32 = 300;
/// Seconds of its rate that a replay may be ahead of the workers, unless it says how many tasks.
const AHEAD_S: f64 = 10.0;

/// A few first, and the rest only while enough of them succeed.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct CanaryRequest {
    /// Tasks that are run before the others, and whose outcomes are waited for.
    #[schema(minimum = 1)]
    first: i64,
    /// The share of successes below which the replay stops by itself, above 0 up to 1.
    #[schema(exclusive_minimum = 0, maximum = 1, example = 0.95)]
    min_success: f64,
    /// How many of the others are run in a second; at most `limits.max_replay_rate` (1000 by default).
    #[schema(exclusive_minimum = 0, example = 20)]
    rate_per_s: f64,
    /// Seconds after which a task that is still being retried counts as failed; 300 when left out.
    #[schema(minimum = 1)]
    timeout_s: Option<i64>,
    /// After the canary, the share is of the latest so many outcomes; of all when left out.
    #[schema(minimum = 1)]
    window: Option<i64>,
    /// No more are run while so many have no outcome yet; those of ten seconds, or `first` if that is more, when left out.
    #[schema(minimum = 1)]
    max_waiting: Option<i64>,
}

/// The same, checked and complete.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Canary {
    pub first: i32,
    pub min_success: f64,
    pub rate_per_s: f64,
    pub timeout_s: i32,
    /// Null: the share is of all outcomes.
    pub window: Option<i32>,
    pub max_waiting: i32,
}

impl CanaryRequest {
    /// Errors are added to `errors`.
    pub(in crate::endpoints) fn check(
        &self,
        limits: &InputLimits,
        errors: &mut Vec<FieldError>,
    ) -> Canary {
        let mut error = |name: &str, detail: String| {
            errors.push(FieldError::new(format!("/canary/{name}"), detail));
        };
        if !(self.min_success > 0.0 && self.min_success <= 1.0) {
            error("min_success", "must be above 0 and at most 1".to_owned());
        }
        let highest = limits.max_replay_rate;
        if !(self.rate_per_s > 0.0 && self.rate_per_s <= f64::from(highest)) {
            let detail = format!("must be above 0 and at most {highest} (limits.max_replay_rate)");
            error("rate_per_s", detail);
        }
        let mut number = |name: &str, asked: Option<i64>, most: i64, key: &str| {
            let asked = asked?;
            let number = i32::try_from(asked)
                .ok()
                .filter(|number| (1..=most).contains(&i64::from(*number)));
            if number.is_none() {
                error(name, format!("must be 1 to {most} ({key})"));
            }
            number
        };
        let most = i64::try_from(limits.max_bulk).unwrap_or(i64::MAX);
        let longest = i64::from(limits.max_time_limit_s);
        let first = number("first", Some(self.first), most, "limits.max_bulk").unwrap_or(1);
        let timeout_s = number(
            "timeout_s",
            self.timeout_s,
            longest,
            "limits.max_time_limit_s",
        );
        let window = number("window", self.window, most, "limits.max_bulk");
        let max_waiting = number("max_waiting", self.max_waiting, most, "limits.max_bulk");
        #[expect(clippy::cast_possible_truncation, reason = "a cast saturates")]
        let ahead = (self.rate_per_s * AHEAD_S).ceil() as i32;
        Canary {
            first,
            min_success: self.min_success,
            rate_per_s: self.rate_per_s,
            timeout_s: timeout_s.unwrap_or(TIMEOUT_S),
            window,
            max_waiting: max_waiting.unwrap_or(ahead.max(first)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use shared::config::Config;

    fn check(request: serde_json::Value) -> Result<Canary, Vec<String>> {
        let request: CanaryRequest = serde_json::from_value(request).unwrap();
        let mut errors = Vec::new();
        let canary = request.check(&Config::with(&[]).unwrap().limits, &mut errors);
        if errors.is_empty() {
            return Ok(canary);
        }
        Err(errors.into_iter().map(|error| error.pointer).collect())
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let canary = check(json!({"first": 10, "min_success": 0.95, "rate_per_s": 2.5})).unwrap();
        assert_eq!(
            (canary.timeout_s, canary.window, canary.max_waiting),
            (300, None, 25)
        );
        let slow = check(json!({"first": 10, "min_success": 1, "rate_per_s": 0.1})).unwrap();
        assert_eq!(slow.max_waiting, 10);
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = json!({"first": 0, "min_success": 0, "rate_per_s": 0, "timeout_s": 86_401, "window": 0, "max_waiting": 3_000_000_000_i64});
        assert_eq!(
            check(wrong).unwrap_err(),
            [
                "min_success",
                "rate_per_s",
                "first",
                "timeout_s",
                "window",
                "max_waiting"
            ]
            .map(|name| format!("/canary/{name}"))
        );
        let fast = json!({"first": 1, "min_success": 1.1, "rate_per_s": 1001});
        assert_eq!(check(fast).unwrap_err().len(), 2);
    }
}
