//! Invariants that rows can break: a table of conditions, each with its remedy and, where that is safe beside running
//! services, its repair.

use crate::{
    queries::{doctor, outbox::PromoteDue, rescue, retention},
    reaper,
};
use diesel::{PgConnection, QueryResult};
use shared::{
    backoff::TIERS,
    config::Config,
    task::{Lane, Queue, UNKNOWN_KIND},
    topology,
};
use std::time::Duration;

/// Loops of the services come by more often than this, in seconds.
const LONG_AGO: u64 = 60;
/// A message that was published so often is refused or finds no queue.
const MANY_TRIES: u32 = 10;

/// What rows must not be.
pub(crate) struct RowCheck {
    pub(crate) name: &'static str,
    pub(crate) table: Table,
    /// SQL over `t`, and over what else the table's FROM names.
    pub(crate) condition: String,
    /// Follows the count.
    pub(crate) says: &'static str,
    pub(crate) remedy: &'static str,
    pub(crate) repair: Option<Repair>,
}

/// Where to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// Tasks that are not finished, with their workers (`w`).
    Live,
    /// Tasks that are.
    Finished,
    Attempts,
    /// With their tasks (`tasks`).
    Outbox,
    Keys,
    Workers,
}

/// How it is put right; both run batch by batch, until nothing is left.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Repair {
    /// The assignments of an UPDATE of the rows that meet the condition.
    Set(&'static str),
    Delete,
    /// What the services do too.
    By(fn(&mut PgConnection, &Config) -> QueryResult<usize>),
}

impl Table {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Live | Self::Finished => "tasks",
            Self::Attempts => "task_attempts",
            Self::Outbox => "outbox",
            Self::Keys => "idempotency_keys",
            Self::Workers => "workers",
        }
    }

    /// The table as `t`, what is joined to it, and its part of the condition.
    pub(crate) fn from(self) -> &'static str {
        match self {
            Self::Live => {
                "tasks AS t LEFT JOIN workers AS w ON w.id = t.worker_id WHERE t.finished_at IS NULL AND "
            }
            Self::Finished => "tasks AS t WHERE t.finished_at IS NOT NULL AND ",
            Self::Attempts => "task_attempts AS t WHERE ",
            Self::Outbox => "outbox AS t LEFT JOIN tasks ON tasks.id = t.task_id WHERE ",
            Self::Keys => "idempotency_keys AS t WHERE ",
            Self::Workers => "workers AS t WHERE ",
        }
    }

    /// What rows are known by, to people.
    pub(crate) fn sample(self) -> &'static str {
        match self {
            Self::Live | Self::Finished | Self::Workers => "t.id::text",
            Self::Attempts | Self::Outbox => "t.task_id::text",
            Self::Keys => "t.request_id::text",
        }
    }

    /// The primary key, as it is and as that of `t`.
    pub(crate) fn key(self) -> (&'static str, &'static str) {
        match self {
            Self::Live | Self::Finished | Self::Outbox | Self::Workers => ("id", "t.id"),
            Self::Attempts => ("(task_id, attempt)", "t.task_id, t.attempt"),
            Self::Keys => ("(api_key_id, key)", "t.api_key_id, t.key"),
        }
    }
}

/// What is cheap to look at, however long history is; breaches of these are exported as a metric.
pub(crate) fn live(config: &Config) -> Vec<RowCheck> {
    let lease = Duration::from_secs(config.rescue.lease_s) + reaper::SWEEP;
    let rescued = lease.as_secs() + 5;
    let expired = LONG_AGO + 2 * config.retention.every_s;
    vec![
        RowCheck {
            name: "scheduled_without_time",
            table: Table::Live,
            condition: "t.status = 'SCHEDULED' AND t.due_at IS NULL".into(),
            says: "SCHEDULED tasks have no due time, so nothing wakes them",
            remedy: "set their due_at",
            repair: Some(Repair::Set("due_at = COALESCE(run_at, now())")),
        },
        RowCheck {
            name: "due_long_ago",
            table: Table::Live,
            condition: format!(
                "t.due_at < now() - interval '{LONG_AGO} seconds' AND t.status IN ('SCHEDULED', 'PENDING', 'RETRYING')"
            ),
            says: "tasks were due a minute ago or more and have not been handed to the broker",
            remedy: "see that an api-service runs: its scheduler wakes them",
            repair: Some(Repair::By(promote)),
        },
        RowCheck {
            name: "running_without_worker",
            table: Table::Live,
            condition: format!(
                "t.status = 'PROCESSING' AND (w.id IS NULL OR w.state <> 'alive')
                 AND GREATEST(t.updated_at, w.heartbeat_at) < now() - interval '{rescued} seconds'"
            ),
            says: "tasks are PROCESSING under no living worker",
            remedy: "see that an api-service runs: its reaper rescues them",
            repair: Some(Repair::By(rescue_all)),
        },
        RowCheck {
            name: "cancelled_but_waiting",
            table: Table::Live,
            condition: "t.cancel_requested_at IS NOT NULL AND t.status IN ('SCHEDULED', 'PENDING', 'RETRYING')".into(),
            says: "tasks were cancelled and would run all the same",
            remedy: "cancel them again",
            repair: Some(Repair::Set(
                "status = 'CANCELLED', finished_at = now(), updated_at = now(), due_at = NULL, next_attempt_at = NULL",
            )),
        },
        RowCheck {
            name: "final_but_live",
            table: Table::Live,
            condition: "t.status IN ('COMPLETED', 'FAILED', 'CANCELLED', 'EXPIRED', 'UNKNOWN')".into(),
            says: "tasks are final and have no end time, so they are never deleted",
            remedy: "set their finished_at",
            repair: Some(Repair::Set("finished_at = updated_at, due_at = NULL")),
        },
        RowCheck {
            name: "useless_but_waiting",
            table: Table::Live,
            condition: format!(
                "t.useful_until < now() - interval '{expired} seconds' AND t.status IN ('SCHEDULED', 'PENDING', 'RETRYING')"
            ),
            says: "tasks wait although their useful_until passed a minute ago or more",
            remedy: "see that an api-service runs: its janitor ends them",
            repair: Some(Repair::By(|connection, _| {
                retention::expire(connection, doctor::BATCH)
            })),
        },
        RowCheck {
            name: "unknown_queue",
            table: Table::Live,
            condition: format!("t.queue NOT IN ({})", quoted(Queue::ALL.iter())),
            says: "tasks are in a queue that this version does not have",
            remedy: "run a version that has it, or cancel them (POST /api/v1/tasks/{id}/cancel)",
            repair: None,
        },
        RowCheck {
            name: "outbox_unroutable",
            table: Table::Outbox,
            condition: format!("NOT ({})", routes()),
            says: "messages in the outbox go to an exchange or queue that the topology does not have",
            remedy: "cancel their tasks, or run a version that has it",
            repair: Some(Repair::By(|connection, _| {
                doctor::reroute(connection, &routes(), &quoted(Queue::ALL.iter()))
            })),
        },
    ]
}

/// What needs a look at all of a table, or is of no task.
pub(crate) fn thorough(config: &Config) -> Vec<RowCheck> {
    let keys = u64::from(config.accept.idempotency_hours) * 3600 + LONG_AGO * 60;
    vec![
        RowCheck {
            name: "parked_kinds",
            table: Table::Live,
            condition: format!(
                "t.status = 'RETRYING' AND t.error_code = '{UNKNOWN_KIND}' AND t.due_at IS NOT NULL"
            ),
            says: "tasks wait for a worker that knows their kind",
            remedy: "deploy such a worker; GET /api/v1/tasks?error_code=unknown_kind lists them; or cancel them",
            repair: None,
        },
        RowCheck {
            name: "live_but_finished",
            table: Table::Finished,
            condition: "t.status IN ('SCHEDULED', 'PENDING', 'PROCESSING', 'RETRYING')".into(),
            says: "tasks are not final and have an end time, so nobody looks for them and they will be deleted",
            remedy: "remove their finished_at",
            repair: Some(Repair::Set("finished_at = NULL")),
        },
        RowCheck {
            name: "finished_with_time",
            table: Table::Finished,
            condition: "t.due_at IS NOT NULL".into(),
            says: "finished tasks have a due time",
            remedy: "remove it",
            repair: Some(Repair::Set("due_at = NULL")),
        },
        RowCheck {
            name: "outbox_overdue",
            table: Table::Outbox,
            condition: format!(
                "(t.publish_after < now() - interval '{LONG_AGO} seconds' OR t.tries >= {MANY_TRIES})"
            ),
            says: "messages have waited in the outbox for a minute, or were published ten times without a confirm",
            remedy: "see whether the broker is away, blocked (memory, disk) or refuses (a length limit), and that an api-service \
                     runs: its relay publishes them",
            repair: None,
        },
        RowCheck {
            name: "outbox_without_task",
            table: Table::Outbox,
            condition: format!(
                "tasks.id IS NULL AND t.exchange <> '{}' AND t.publish_after < now() - interval '{LONG_AGO} seconds'",
                topology::EVENTS
            ),
            says: "messages in the outbox are about tasks that are gone",
            remedy: "delete them",
            repair: Some(Repair::Delete),
        },
        RowCheck {
            name: "attempts_without_task",
            table: Table::Attempts,
            condition: "NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id = t.task_id)".into(),
            says: "failed attempts are of tasks that are gone",
            remedy: "delete them",
            repair: Some(Repair::Delete),
        },
        RowCheck {
            name: "old_idempotency_keys",
            table: Table::Keys,
            condition: format!("t.created_at < now() - interval '{keys} seconds'"),
            says: "idempotency keys are older than accept.idempotency_hours",
            remedy: "see that an api-service runs: its janitor deletes them",
            repair: Some(Repair::By(|connection, config| {
                retention::forget_keys(connection, config.accept.idempotency_hours, doctor::BATCH)
            })),
        },
        RowCheck {
            name: "silent_workers",
            table: Table::Workers,
            condition: format!(
                "t.state = 'alive' AND t.heartbeat_at < now() - interval '{} seconds'",
                2 * config.rescue.lease_s
            ),
            says: "workers are silent and nobody has declared them dead",
            remedy: "see that an api-service runs: its reaper watches them; or watch them by `doctor --watch --fix`",
            repair: None,
        },
        RowCheck {
            name: "worker_clocks",
            table: Table::Workers,
            condition: format!(
                "t.state = 'alive' AND abs(t.clock_ahead_s) > {}",
                config.rescue.clock_skew_s
            ),
            says: "workers' clocks differ from the database's by more than rescue.clock_skew_s",
            remedy: "see that NTP runs on their machines and on the database's",
            repair: None,
        },
    ]
}

fn promote(connection: &mut PgConnection, config: &Config) -> QueryResult<usize> {
    let promote = PromoteDue {
        limit: doctor::BATCH,
        exchange: topology::TASKS,
        relay_seconds: patience(config).as_secs_f64(),
    };
    promote.run(connection).map(|messages| messages.len())
}

fn rescue_all(connection: &mut PgConnection, config: &Config) -> QueryResult<usize> {
    rescue::rescue(connection, doctor::BATCH, patience(config)).map(|(_, count)| count)
}

fn patience(config: &Config) -> Duration {
    Duration::from_millis(config.outbox.relay_after_ms.into())
}

fn quoted<T: ToString>(texts: impl Iterator<Item = T>) -> String {
    let texts: Vec<String> = texts
        .map(|text| format!("'{}'", text.to_string()))
        .collect();
    texts.join(", ")
}

/// Of an outbox row `t` that the topology can carry out.
fn routes() -> String {
    let lanes = Queue::ALL.iter().flat_map(|queue| {
        let key = |lane| topology::routing_key(*queue, lane);
        Lane::ALL.iter().map(move |lane| key(*lane))
    });
    let tiers = TIERS.into_iter().map(topology::retry_tier);
    let exchanges = tiers.chain([topology::TASKS.to_owned()]);
    format!(
        "t.exchange IN ('{}', '{}') OR (t.exchange IN ({}) AND t.routing_key IN ({}))",
        topology::DEAD,
        topology::EVENTS,
        quoted(exchanges),
        quoted(lanes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_words() {
        let config = Config::with(&[]).unwrap();
        let mut names: Vec<_> = live(&config)
            .iter()
            .chain(&thorough(&config))
            .map(|check| check.name)
            .collect();
        assert!(
            names
                .iter()
                .all(|name| { name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') })
        );
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
