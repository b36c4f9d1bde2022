//! A replay as callers see it.

use super::canary::Canary;
use crate::{
    endpoints::{BASE, tasks::resource::Timestamp},
    queries::replays::ReplayRow,
    replayer::ReplayState,
};
use serde::Serialize;
use uuid::Uuid;

/// A replay with a canary.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Replay)]
pub struct ReplayResource {
    pub id: Uuid,
    #[schema(value_type = ReplayState)]
    state: String,
    /// As it was asked for.
    #[schema(value_type = Object)]
    filter: serde_json::Value,
    canary: Canary,
    /// At most that many tasks.
    limit: i64,
    /// Tasks that the filter found when the replay began.
    matched: i64,
    /// False: there are more than `matched`; counting took too long.
    matched_all: bool,
    /// Tasks that were run again.
    replayed: i64,
    /// Of those, COMPLETED.
    succeeded: i64,
    /// Of those, FAILED, CANCELLED, EXPIRED or UNKNOWN, or still being retried after `timeout_s`.
    failed: i64,
    /// Of those, without an outcome yet.
    waiting: i64,
    /// Of successes among the outcomes that count: the latest `window`, or all.
    share: Option<f64>,
    /// Why it ended.
    reason: Option<String>,
    /// The latest tasks that failed, at most 10; only where one replay is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<Vec<Uuid>>,
    /// The name of the API key that began it.
    created_by: String,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    created_at: Timestamp,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    updated_at: Timestamp,
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    finished_at: Option<Timestamp>,
    pub links: ReplayLinks,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ReplayLinks {
    #[serde(rename = "self")]
    #[schema(rename = "self")]
    pub this: String,
}

impl ReplayResource {
    pub(super) fn is(&self, state: ReplayState) -> bool {
        self.state == state.as_str()
    }

    pub(super) fn with_failures(mut self, failures: Vec<Uuid>) -> Self {
        self.failures = Some(failures);
        self
    }
}

impl From<ReplayRow> for ReplayResource {
    fn from(row: ReplayRow) -> Self {
        Self {
            id: row.id,
            state: row.state,
            filter: row.asked,
            canary: Canary {
                first: row.canary,
                min_success: row.min_success,
                rate_per_s: row.rate_per_s,
                timeout_s: row.timeout_s,
                window: row.share_of,
                max_waiting: row.max_waiting,
            },
            limit: row.at_most,
            matched: row.matched,
            matched_all: row.counted,
            replayed: row.replayed,
            succeeded: row.succeeded,
            failed: row.failed,
            waiting: row.replayed - row.succeeded - row.failed,
            share: row.share,
            reason: row.reason,
            failures: None,
            created_by: row.actor,
            created_at: Timestamp(row.created_at),
            updated_at: Timestamp(row.updated_at),
            finished_at: row.finished_at.map(Timestamp),
            links: ReplayLinks {
                this: format!("{BASE}/replays/{}", row.id),
            },
        }
    }
}
