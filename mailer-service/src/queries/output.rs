//! The output of attempts that end, and what makes room for the output of later ones.

use crate::{progress::Chunk, registry::Key};
use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    sql_types::{Array, BigInt, Bool, Integer, Text, Uuid as SqlUuid},
};
use shared::{statement, task::TaskId};
use uuid::Uuid;

statement! {
    /// Pieces of attempts that are about to be settled in the same transaction. The control thread may have written one
    /// of them a moment ago.
    pub struct StoreLast -> (SqlUuid,) {
        id: Array<SqlUuid> = Vec<Uuid>,
        attempt: Array<Integer> = Vec<i32>,
        seq: Array<Integer> = Vec<i32>,
        text: Array<Text> = Vec<String>,
        truncated: Array<Bool> = Vec<bool>,
    }
    "WITH held AS (
        SELECT tasks.id, said.attempt, said.seq, said.text, said.truncated
        FROM unnest(?, ?, ?, ?, ?) AS said (id, attempt, seq, text, truncated)
        JOIN tasks ON tasks.id = said.id
        WHERE tasks.attempt = said.attempt AND tasks.status = 'PROCESSING'
        FOR UPDATE OF tasks
     )
     INSERT INTO task_output (task_id, attempt, seq, text, truncated)
     SELECT id, attempt, seq, text, truncated FROM held
     ON CONFLICT DO NOTHING"
}

impl StoreLast {
    pub fn push(&mut self, (TaskId(id), attempt): Key, chunk: &Chunk) {
        self.id.push(id);
        self.attempt.push(attempt);
        self.seq.push(chunk.seq);
        self.text.push(chunk.text.clone());
        self.truncated.push(chunk.truncated);
    }

    pub fn run(&self, connection: &mut PgConnection) -> QueryResult<usize> {
        self.execute(connection)
    }
}

statement! {
    /// For attempts that begin to put out: of the output of the attempts before, the newest that fits is kept.
    pub struct MakeRoom -> (SqlUuid,) {
        id: Array<SqlUuid> = Vec<Uuid>,
        attempt: Array<Integer> = Vec<i32>,
        most: BigInt = i64,
    }
    "DELETE FROM task_output USING (
        SELECT task_id, task_output.attempt,
            sum(sum(octet_length(text))) OVER (PARTITION BY task_id ORDER BY task_output.attempt DESC) AS bytes
        FROM unnest(?, ?) AS beginning (id, attempt)
        JOIN task_output ON task_id = id AND task_output.attempt < beginning.attempt
        GROUP BY task_id, task_output.attempt
     ) AS before
     WHERE task_output.task_id = before.task_id AND task_output.attempt = before.attempt AND before.bytes > ?"
}

impl MakeRoom {
    /// Notes an attempt if this is its first piece and there may be others before.
    pub fn push(&mut self, (TaskId(id), attempt): Key, chunk: &Chunk) {
        if attempt > 1 && chunk.seq == 1 {
            self.id.push(id);
            self.attempt.push(attempt);
        }
    }

    pub fn run(&mut self, connection: &mut PgConnection, most: usize) -> QueryResult<usize> {
        if self.id.is_empty() {
            return Ok(0);
        }
        self.most = i64::try_from(most).unwrap_or(i64::MAX);
        (&*self).execute(connection)
    }
}
