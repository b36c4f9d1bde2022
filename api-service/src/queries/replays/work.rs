//! What the replayer reads and writes, in the transaction that holds the replay's lock.

use super::ReplayRow;
use crate::replayer::Outcomes;
use chrono::{DateTime, Utc};
use diesel::{
    AsChangeset, ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, QueryResult,
    RunQueryDsl, SelectableHelper,
    dsl::{now, sql},
    sql_types::{Array, BigInt, Double, Integer, Timestamptz, Uuid as SqlUuid},
};
use shared::{outbox::OutboxRow, schema::replays, statement};
use uuid::Uuid;

/// What a step changes of its replay.
#[derive(Debug, Clone, AsChangeset)]
#[diesel(table_name = replays, treat_none_as_null = true)]
pub struct Progress {
    pub state: &'static str,
    pub replayed: i64,
    pub succeeded: i64,
    pub failed: i64,
    pub share: Option<f64>,
    pub below: Option<Uuid>,
    pub paced_at: Option<DateTime<Utc>>,
    pub due_at: Option<DateTime<Utc>>,
    pub reason: Option<String>,
    pub finished_at: Option<DateTime<Utc>>,
}

statement! {
    /// Notes what has become of the tasks that were run again. One that is still being retried when its time is up has
    /// failed, and so has one that is gone.
    struct Settle -> (BigInt, BigInt) {
        timeout_s: Double = f64,
        waiting_of: SqlUuid = Uuid,
        replay_id: SqlUuid = Uuid,
    }
    "WITH ended AS (
        SELECT waiting.task_id, finished_at, CASE
            WHEN status IS NULL THEN 'failed'
            WHEN status = 'COMPLETED' THEN 'succeeded'
            WHEN status NOT IN ('SCHEDULED', 'PENDING', 'PROCESSING', 'RETRYING') THEN 'failed'
            WHEN waiting.replayed_at < now() - make_interval(secs => ?)
                AND (status = 'RETRYING' OR made > waiting.attempt + 1) THEN 'failed'
        END AS outcome
        FROM replay_tasks AS waiting
        -- Each by its key, whatever the planner thinks of a join.
        LEFT JOIN LATERAL (
            SELECT status, attempt AS made, finished_at FROM tasks WHERE id = waiting.task_id LIMIT 1
        ) AS task ON true
        WHERE waiting.replay_id = ? AND waiting.settled_at IS NULL
     ), settled AS (
        UPDATE replay_tasks AS waiting SET outcome = ended.outcome, settled_at = COALESCE(ended.finished_at, now())
        FROM ended WHERE waiting.replay_id = ? AND waiting.settled_at IS NULL AND waiting.task_id = ended.task_id
            AND ended.outcome IS NOT NULL
        RETURNING waiting.outcome
     )
     SELECT count(*) FILTER (WHERE outcome = 'succeeded'), count(*) FILTER (WHERE outcome = 'failed') FROM settled"
}

statement! {
    /// The latest outcomes of a replay.
    struct Latest -> (BigInt, BigInt) {
        replay_id: SqlUuid = Uuid,
        latest: BigInt = i64,
    }
    "SELECT count(*) FILTER (WHERE outcome = 'succeeded'), count(*) FILTER (WHERE outcome = 'failed')
     FROM (SELECT outcome FROM replay_tasks WHERE replay_id = ? AND settled_at IS NOT NULL
        ORDER BY settled_at DESC LIMIT ?) AS latest"
}

impl Progress {
    /// As it is.
    pub fn of(row: &ReplayRow, state: &'static str) -> Self {
        Self {
            state,
            replayed: row.replayed,
            succeeded: row.succeeded,
            failed: row.failed,
            share: row.share,
            below: row.below,
            paced_at: row.paced_at,
            due_at: None,
            reason: row.reason.clone(),
            finished_at: row.finished_at,
        }
    }
}

/// The replay that has been due for longest and that nobody works on, locked, and the present time.
pub fn due(connection: &mut PgConnection) -> QueryResult<Option<(ReplayRow, DateTime<Utc>)>> {
    replays::table
        .filter(replays::due_at.le(now))
        .order(replays::due_at)
        .select((ReplayRow::as_select(), sql::<Timestamptz>("now()")))
        .limit(1)
        .for_update()
        .skip_locked()
        .first(connection)
        .optional()
}

pub fn save(connection: &mut PgConnection, id: Uuid, progress: &Progress) -> QueryResult<usize> {
    diesel::update(replays::table.find(id))
        .set((progress, replays::updated_at.eq(now)))
        .execute(connection)
}

/// Lets others go first.
pub fn put_off(connection: &mut PgConnection) -> QueryResult<usize> {
    diesel::sql_query(
        "UPDATE replays SET due_at = now() + interval '1 minute' WHERE id = (
            SELECT id FROM replays WHERE due_at <= now() ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)",
    )
    .execute(connection)
}

/// Notes what has become of the replay's tasks; returns the outcomes that are new.
pub fn settle(connection: &mut PgConnection, id: Uuid, timeout_s: i32) -> QueryResult<Outcomes> {
    let statement = Settle {
        timeout_s: timeout_s.into(),
        waiting_of: id,
        replay_id: id,
    };
    let (succeeded, failed) = (&statement).get_result(connection)?;
    Ok(Outcomes { succeeded, failed })
}

/// Of the `latest` outcomes.
pub fn latest_outcomes(
    connection: &mut PgConnection,
    id: Uuid,
    latest: i32,
) -> QueryResult<Outcomes> {
    let statement = Latest {
        replay_id: id,
        latest: latest.into(),
    };
    let (succeeded, failed) = (&statement).get_result(connection)?;
    Ok(Outcomes { succeeded, failed })
}

/// Notes that these tasks were run again.
pub fn note(connection: &mut PgConnection, id: Uuid, messages: &[OutboxRow]) -> QueryResult<usize> {
    let (tasks, attempts): (Vec<Uuid>, Vec<i32>) = messages
        .iter()
        .map(|message| (message.task_id, message.attempt - 1))
        .unzip();
    diesel::sql_query(
        "INSERT INTO replay_tasks (replay_id, task_id, attempt)
         SELECT $1, task_id, attempt FROM unnest($2, $3) AS replayed (task_id, attempt)",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Array<SqlUuid>, _>(tasks)
    .bind::<Array<Integer>, _>(attempts)
    .execute(connection)
}
