//! What watchers of tasks look at: the state of many tasks at once, and output beyond what was seen. All of it finds rows
//! by key, so it costs the same however long history is.

use chrono::{DateTime, Utc};
use diesel::{
    PgConnection, QueryResult, Queryable, RunQueryDsl,
    sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use shared::{statement, task::Status};
use uuid::Uuid;

/// A place in a task's output: after this piece. The first of all is the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub attempt: i32,
    /// From 1 in each attempt.
    pub seq: i32,
}

/// A task as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub id: Uuid,
    /// By PostgreSQL's clock.
    pub at: DateTime<Utc>,
    pub status: String,
    pub attempt: i32,
    pub max_attempts: i32,
    /// JSON.
    pub progress: Option<String>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub started_at: Option<DateTime<Utc>>,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub updated_at: DateTime<Utc>,
    /// The end of its output. That of a final task is the end for good.
    pub head: Place,
}

impl Look {
    pub fn status(&self) -> Option<Status> {
        Status::parse(&self.status)
    }

    pub fn is_final(&self) -> bool {
        self.status().is_some_and(Status::is_final)
    }

    /// Whether it shows the same as another look at the task.
    pub fn shows_the_same(&self, other: &Self) -> bool {
        let at = self.at;
        *self
            == Self {
                at,
                ..other.clone()
            }
    }
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    pub place: Place,
    pub text: String,
    /// More was emitted, and is not kept.
    pub truncated: bool,
}

statement! {
    struct LookAt -> (
        SqlUuid, Timestamptz, Text, Integer, Integer, Nullable<Text>, Nullable<Text>, Nullable<Text>,
        Nullable<Timestamptz>, Nullable<Timestamptz>, Timestamptz, Integer, Integer
    ) {
        ids: Array<SqlUuid> = Vec<Uuid>,
    }
    "SELECT tasks.id, statement_timestamp(), status, tasks.attempt, max_attempts, progress::text, error_code, error_message,
        started_at, next_attempt_at, updated_at, COALESCE(latest.attempt, 0), COALESCE(latest.seq, 0)
     FROM tasks LEFT JOIN LATERAL (
        SELECT attempt, seq FROM task_output
        -- Nothing has been put out before the first attempt.
        WHERE task_id = tasks.id AND tasks.attempt > 0
        ORDER BY attempt DESC, seq DESC LIMIT 1
     ) AS latest ON true
     WHERE tasks.id = ANY(?)"
}

#[derive(Queryable)]
struct LookRow {
    id: Uuid,
    at: DateTime<Utc>,
    status: String,
    attempt: i32,
    max_attempts: i32,
    progress: Option<String>,
    error_code: Option<String>,
    error_message: Option<String>,
    started_at: Option<DateTime<Utc>>,
    next_attempt_at: Option<DateTime<Utc>>,
    updated_at: DateTime<Utc>,
    head_attempt: i32,
    head_seq: i32,
}

/// Those of the tasks that there are.
pub fn look(connection: &mut PgConnection, ids: Vec<Uuid>) -> QueryResult<Vec<Look>> {
    let rows: Vec<LookRow> = (&LookAt { ids }).load(connection)?;
    let of_row = |row: LookRow| Look {
        id: row.id,
        at: row.at,
        status: row.status,
        attempt: row.attempt,
        max_attempts: row.max_attempts,
        progress: row.progress,
        error_code: row.error_code,
        error_message: row.error_message,
        started_at: row.started_at,
        next_attempt_at: row.next_attempt_at,
        updated_at: row.updated_at,
        head: Place {
            attempt: row.head_attempt,
            seq: row.head_seq,
        },
    };
    Ok(rows.into_iter().map(of_row).collect())
}

statement! {
    /// Of each task some pieces after one place and up to another; of all of them only so many bytes.
    struct ReadMany -> (SqlUuid, Integer, Integer, Text, Bool) {
        id: Array<SqlUuid> = Vec<Uuid>,
        from_attempt: Array<Integer> = Vec<i32>,
        from_seq: Array<Integer> = Vec<i32>,
        to_attempt: Array<Integer> = Vec<i32>,
        to_seq: Array<Integer> = Vec<i32>,
        pieces: BigInt = i64,
        bytes: BigInt = i64,
    }
    "SELECT id, attempt, seq, text, truncated FROM (
        SELECT asked.id, piece.*, sum(octet_length(text)) OVER (ORDER BY asked.number, attempt, seq) AS bytes
        FROM unnest(?, ?, ?, ?, ?) WITH ORDINALITY
            AS asked (id, from_attempt, from_seq, to_attempt, to_seq, number)
        CROSS JOIN LATERAL (
            SELECT attempt, seq, text, truncated FROM task_output
            WHERE task_id = asked.id AND (attempt, seq) > (from_attempt, from_seq) AND (attempt, seq) <= (to_attempt, to_seq)
            ORDER BY attempt, seq LIMIT ?
        ) AS piece
     ) AS pieces
     WHERE bytes - octet_length(text) < ?
     ORDER BY id, attempt, seq"
}

/// A stretch of a task's output, without its first place and with its last.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    pub task: Uuid,
    pub from: Place,
    pub to: Place,
}

/// Pieces of the stretches in their order, by task: up to `pieces` of each, and none after there are `bytes` in all.
pub fn output(
    connection: &mut PgConnection,
    stretches: &[Stretch],
    pieces: i64,
    bytes: usize,
) -> QueryResult<Vec<(Uuid, Chunk)>> {
    let mut statement = ReadMany {
        pieces,
        bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
        ..ReadMany::default()
    };
    for stretch in stretches {
        statement.id.push(stretch.task);
        statement.from_attempt.push(stretch.from.attempt);
        statement.from_seq.push(stretch.from.seq);
        statement.to_attempt.push(stretch.to.attempt);
        statement.to_seq.push(stretch.to.seq);
    }
    let rows: Vec<(Uuid, i32, i32, String, bool)> = (&statement).load(connection)?;
    let of_row = |(task, attempt, seq, text, truncated)| {
        let place = Place { attempt, seq };
        let chunk = Chunk {
            place,
            text,
            truncated,
        };
        (task, chunk)
    };
    Ok(rows.into_iter().map(of_row).collect())
}
