//! Events as they are sent: `text/event-stream` of the HTML standard, data in JSON.

use super::position::Position;
use crate::{
    endpoints::tasks::resource::{Progress, TaskError, Timestamp},
    queries::watch::{Chunk, Look},
};
use serde::Serialize;
use shared::task::Status;
use std::fmt::Write;

/// How far a task is on its way.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct StateEvent<'a> {
    #[schema(value_type = Status)]
    status: &'a str,
    /// Attempts started.
    attempt: i32,
    max_attempts: i32,
    /// Why the latest attempt failed.
    error: Option<TaskError<'a>>,
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    started_at: Option<Timestamp>,
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    next_attempt_at: Option<Timestamp>,
}

impl<'a> From<&'a Look> for StateEvent<'a> {
    fn from(look: &'a Look) -> Self {
        Self {
            status: &look.status,
            attempt: look.attempt,
            max_attempts: look.max_attempts,
            error: look.error_code.as_deref().map(|code| TaskError {
                code: code.into(),
                message: look.error_message.as_deref().unwrap_or_default().into(),
            }),
            started_at: look.started_at.map(Timestamp),
            next_attempt_at: look.next_attempt_at.map(Timestamp),
        }
    }
}

/// A piece of what the task's handler puts out. Pieces of an attempt follow one another without a gap.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct OutputEvent<'a> {
    attempt: i32,
    /// From 1 in each attempt.
    seq: i32,
    #[schema(value_type = String)]
    text: &'a str,
    /// More was put out than `output.max_bytes`, and is not kept. Absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

impl<'a> From<&'a Chunk> for OutputEvent<'a> {
    fn from(chunk: &'a Chunk) -> Self {
        Self {
            attempt: chunk.place.attempt,
            seq: chunk.place.seq,
            text: &chunk.text,
            truncated: chunk.truncated,
        }
    }
}

/// The output begins anew: what came before belongs to an attempt that did not succeed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RestartEvent {
    pub(super) attempt: i32,
}

/// How far a running attempt is, as JSON.
pub(super) fn progress(look: &Look) -> Option<String> {
    let progress: Progress = serde_json::from_str(look.progress.as_deref()?).ok()?;
    serde_json::to_string(&progress).ok()
}

/// Adds an event; `at` is where the client stands once it has it.
pub(super) fn event(text: &mut String, name: &str, at: Position, data: &str) {
    // Writing to a String can't fail.
    let _fine = write!(text, "event: {name}\nid: {at}\n");
    // A break in JSON lies between two tokens, where the one that the client makes of it does no harm.
    for line in data.split(['\r', '\n']) {
        let _fine = writeln!(text, "data: {line}");
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_on_the_wire() {
        let mut text = String::new();
        event(&mut text, "output", Position::default(), r#"{"a":"\n"}"#);
        event(&mut text, "end", Position::default(), "{\n\"a\":\r\n1}");
        assert_eq!(
            text,
            "event: output\nid: 0.0.0.0\ndata: {\"a\":\"\\n\"}\n\n\
             event: end\nid: 0.0.0.0\ndata: {\ndata: \"a\":\ndata: \ndata: 1}\n\n"
        );
    }
}
