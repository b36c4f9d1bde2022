//! `[files]`: where attachments are kept.

use secrecy::SecretString;
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Empty: nowhere.
    pub url: String,
    pub s3_endpoint: String,
    pub s3_region: String,
    pub s3_access_key_id: String,
    pub s3_secret_access_key: SecretString,
    pub max_bytes: usize,
    pub max_per_mail: usize,
    pub max_mail_bytes: usize,
    pub blocked_extensions: String,
    pub keep_hours: u32,
    pub max_buffered_bytes: usize,
    pub cache_bytes: u64,
}

impl Files {
    /// Whether files with that extension are refused; without the dot, in lower case.
    pub fn is_blocked(&self, extension: &str) -> bool {
        let mut blocked = self.blocked_extensions.split(',');
        blocked.any(|one| one.trim().eq_ignore_ascii_case(extension))
    }

    /// Which key can't be as it is, and why.
    pub(super) fn mistake(&self) -> Option<(&'static str, &'static str)> {
        if self.keep_hours == 0 {
            return Some(("files.keep_hours", "must be 1 or more"));
        }
        if self.max_bytes == 0 || self.max_buffered_bytes < self.max_mail_bytes.max(self.max_bytes)
        {
            return Some((
                "files.max_buffered_bytes",
                "must be at least max_bytes and max_mail_bytes, and these 1 or more",
            ));
        }
        None
    }
}
