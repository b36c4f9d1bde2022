//! The task as callers see it. Without its payload: what a task carries may be personal, and whoever wants
//! it back asks for it.

use crate::{endpoints::BASE, intake::NewTask, queries::tasks::TaskRow};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use shared::task::{Queue, Status, TaskId};
use std::borrow::Cow;

/// A task.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = Task)]
pub struct TaskResource<'a> {
    #[schema(value_type = uuid::Uuid)]
    pub id: TaskId,
    #[schema(value_type = String, example = "email.send")]
    pub kind: Cow<'a, str>,
    #[schema(value_type = Queue)]
    pub queue: Cow<'a, str>,
    /// 0 (lowest) to 9 (highest).
    #[schema(minimum = 0, maximum = 9)]
    pub priority: i16,
    #[schema(value_type = Status)]
    pub status: Cow<'a, str>,
    /// How far a running task has come, if its kind says so.
    pub progress: Option<Progress>,
    /// What a COMPLETED task returned; its form is the kind's.
    #[schema(value_type = Option<Object>)]
    pub result: Option<Box<RawValue>>,
    /// `true`: the result was removed when its `result_ttl` was over.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub result_expired: bool,
    /// Why the latest attempt failed.
    pub error: Option<TaskError<'a>>,
    /// Attempts started.
    pub attempt: i32,
    pub max_attempts: i32,
    #[schema(value_type = DateTime<Utc>)]
    pub created_at: Timestamp,
    #[schema(value_type = DateTime<Utc>)]
    pub updated_at: Timestamp,
    /// When the latest attempt began.
    #[schema(value_type = Option<DateTime<Utc>>)]
    pub started_at: Option<Timestamp>,
    /// When the task became final: COMPLETED, FAILED, CANCELLED, EXPIRED or UNKNOWN.
    #[schema(value_type = Option<DateTime<Utc>>)]
    pub finished_at: Option<Timestamp>,
    /// When the next attempt is due, while RETRYING.
    #[schema(value_type = Option<DateTime<Utc>>)]
    pub next_attempt_at: Option<Timestamp>,
    /// Not before then, as the caller asked.
    #[schema(value_type = Option<DateTime<Utc>>)]
    pub run_at: Option<Timestamp>,
    /// Not started after then: EXPIRED instead.
    #[schema(value_type = Option<DateTime<Utc>>)]
    pub useful_until: Option<Timestamp>,
    #[schema(value_type = Vec<String>)]
    pub tags: Cow<'a, [String]>,
    /// Whose shared limits it counts against.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub limit_key: Option<Cow<'a, str>>,
    pub links: Links,
    /// Only with `?include=payload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub payload: Option<Box<RawValue>>,
}

#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Progress {
    /// 0 to 100.
    pub percent: Option<f64>,
    pub note: Option<String>,
}

#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = TaskError)]
pub struct TaskError<'a> {
    /// A stable word, e.g. `worker_lost`.
    #[schema(value_type = String, example = "worker_lost")]
    pub code: Cow<'a, str>,
    /// For people.
    #[schema(value_type = String)]
    pub message: Cow<'a, str>,
}

/// Where to go from here; only links that exist.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Links {
    /// The task itself.
    #[serde(rename = "self")]
    #[schema(
        rename = "self",
        example = "/api/v1/tasks/01890000-0000-7000-8000-000000000001"
    )]
    pub this: String,
}

impl Links {
    pub fn of(task: TaskId) -> Self {
        Self {
            this: format!("{BASE}/tasks/{task}"),
        }
    }
}

/// RFC 3339 in UTC with milliseconds, which is what JavaScript writes too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp(pub DateTime<Utc>);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl<'a> From<&'a NewTask> for TaskResource<'a> {
    fn from(task: &'a NewTask) -> Self {
        let created_at = Timestamp(task.created_at);
        Self {
            id: task.id,
            kind: task.kind.name.into(),
            queue: task.queue.as_str().into(),
            priority: task.priority.get().into(),
            status: task.status().as_str().into(),
            progress: None,
            result: None,
            result_expired: false,
            error: task.refusal.map(|refusal| TaskError {
                code: refusal.code.into(),
                message: refusal.message.into(),
            }),
            attempt: 0,
            max_attempts: task.max_attempts.into(),
            created_at,
            updated_at: created_at,
            started_at: None,
            finished_at: None,
            next_attempt_at: None,
            run_at: task.run_at.map(Timestamp),
            useful_until: task.useful_until.map(Timestamp),
            tags: task.tags.as_slice().into(),
            limit_key: task.limit_key.as_deref().map(Cow::from),
            links: Links::of(task.id),
            payload: None,
        }
    }
}

impl From<TaskRow> for TaskResource<'static> {
    fn from(row: TaskRow) -> Self {
        let id = TaskId(row.id);
        let result_expired = row.has_outlived_result && row.status() == Some(Status::Completed);
        let error = row.error_code.map(|code| TaskError {
            code: code.into(),
            message: row.error_message.unwrap_or_default().into(),
        });
        Self {
            id,
            kind: row.kind.into(),
            queue: row.queue.into(),
            priority: row.priority,
            status: row.status.into(),
            progress: row
                .progress
                .and_then(|json| serde_json::from_str(&json.0).ok()),
            result: row
                .result
                .and_then(|json| RawValue::from_string(json.0).ok()),
            result_expired,
            error,
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            created_at: Timestamp(row.created_at),
            updated_at: Timestamp(row.updated_at),
            started_at: row.started_at.map(Timestamp),
            finished_at: row.finished_at.map(Timestamp),
            next_attempt_at: row.next_attempt_at.map(Timestamp),
            run_at: row.run_at.map(Timestamp),
            useful_until: row.useful_until.map(Timestamp),
            tags: row.tags.into(),
            limit_key: row.limit_key.map(Cow::from),
            links: Links::of(id),
            payload: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::{
        kinds,
        task::{OnWorkerLost, Priority},
    };
    use uuid::Uuid;

    #[test]
    fn a_new_task_on_the_wire() {
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
        let kind = kinds::find("email.send").unwrap();
        let task = NewTask {
            id: TaskId(Uuid::from_u128(0x0189_0000_0000_7000_8000_0000_0000_0001)),
            kind,
            queue: kind.queue,
            priority: Priority::DEFAULT,
            payload: "{}".into(),
            content_ttl_s: None,
            files: Vec::new(),
            refusal: None,
            max_attempts: 14,
            time_limits: crate::intake::TimeLimits::default(),
            on_worker_lost: OnWorkerLost::Retry,
            tags: vec!["spring".into()],
            limit_key: None,
            result_ttl_s: None,
            run_at: Some(at("2026-01-02T10:00:00+02:00")),
            useful_until: None,
            created_at: at("2026-01-01T00:00:00.1234567Z"),
            created_by: Uuid::nil(),
            traceparent: None,
        };
        insta::assert_snapshot!(serde_json::to_string(&TaskResource::from(&task)).unwrap(), @r#"{"id":"01890000-0000-7000-8000-000000000001","kind":"email.send","queue":"mail","priority":5,"status":"SCHEDULED","progress":null,"result":null,"error":null,"attempt":0,"max_attempts":14,"created_at":"2026-01-01T00:00:00.123Z","updated_at":"2026-01-01T00:00:00.123Z","started_at":null,"finished_at":null,"next_attempt_at":null,"run_at":"2026-01-02T08:00:00.000Z","useful_until":null,"tags":["spring"],"links":{"self":"/api/v1/tasks/01890000-0000-7000-8000-000000000001"}}"#);
    }
}
