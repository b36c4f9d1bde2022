//! `[verification]`: codes and links that prove that somebody reads an address.

use crate::verification::Form;
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    pub form: Form,
    pub ttl_s: u32,
    pub max_attempts: u16,
    pub cooldown_s: u32,
    /// 0: no limit. Likewise below.
    pub max_per_hour: u32,
    pub max_per_day: u32,
    pub max_failed_per_day: u32,
    pub max_per_client_hour: u32,
    pub max_per_key_hour: u32,
    pub max_per_open_key_hour: u32,
    pub receipt_ttl_s: u32,
    pub code_template: String,
    pub link_template: String,
    pub keep_days: u32,
}

impl Verification {
    /// Which key can't be as it is, and why.
    pub(super) fn mistake(&self) -> Option<(&'static str, &'static str)> {
        if self.form == Form::Link {
            return Some(("verification.form", "must be digits6, digits8 or letters8"));
        }
        if !(60..=86_400).contains(&self.ttl_s) {
            return Some(("verification.ttl_s", "must be 60 to 86400"));
        }
        if !(1..=20).contains(&self.max_attempts) {
            return Some(("verification.max_attempts", "must be 1 to 20"));
        }
        if self.max_per_day > 1000 || self.max_per_hour > 1000 {
            return Some((
                "verification",
                "max_per_hour and max_per_day must be at most 1000",
            ));
        }
        if self.keep_days == 0 {
            return Some(("verification.keep_days", "must be 1 or more"));
        }
        None
    }
}
