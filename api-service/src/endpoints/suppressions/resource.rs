//! How suppressions are shown.

use crate::{
    endpoints::{BASE, tasks::resource::Timestamp},
    queries::suppressions::Row,
};
use serde::Serialize;
use shared::suppression::{ALL_CATEGORIES, Reason};
use uuid::Uuid;

/// An address that gets no mails.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Suppression)]
pub struct SuppressionResource {
    pub(super) id: Uuid,
    /// In lower case; null: its owner was erased, and only a MAC of it is kept.
    pub(super) address: Option<String>,
    /// Null: all.
    #[schema(value_type = Option<shared::category::Category>)]
    pub(super) category: Option<String>,
    /// Of verification codes; null: whatever it is.
    purpose: Option<String>,
    #[schema(value_type = Reason)]
    pub(super) reason: String,
    pub(super) detail: Option<String>,
    /// The mail that led to it.
    task: Option<Uuid>,
    created_by: String,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    pub(super) created_at: Timestamp,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    updated_at: Timestamp,
    /// Null: never.
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    pub(super) expires_at: Option<Timestamp>,
    pub(super) links: SuppressionLinks,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SuppressionLinks {
    #[serde(rename = "self")]
    #[schema(rename = "self")]
    pub(super) this: String,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SuppressionPage {
    /// Newest first.
    pub(super) items: Vec<SuppressionResource>,
    /// `cursor` of the next page; null: this was the last.
    pub(super) next_cursor: Option<String>,
}

impl From<Row> for SuppressionResource {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            address: Some(row.address).filter(|address| !address.starts_with('~')),
            category: Some(row.category).filter(|category| category != ALL_CATEGORIES),
            purpose: Some(row.purpose).filter(|purpose| !purpose.is_empty()),
            reason: row.reason,
            detail: row.detail,
            task: row.task_id,
            created_by: row.created_by,
            created_at: Timestamp(row.created_at),
            updated_at: Timestamp(row.updated_at),
            expires_at: row.expires_at.map(Timestamp),
            links: SuppressionLinks {
                this: format!("{BASE}/suppressions/{}", row.id),
            },
        }
    }
}
