//! What the api-service does to tasks: accepting, its loops, its operators.

use super::{
    At, Order,
    machine::{Machine, Outcome},
    record::{Done, Key},
};
use api_service::{
    auth::{Caller, Scopes},
    intake::{NewTask, Submission, TimeLimits},
    queries::{
        accept::{self, Accept},
        audit::Deed,
        epoch, operate,
        operate::Chosen,
        outbox::{PromoteDue, RequeueLost, TakeOverdue},
        rescue, workers,
    },
};
use chrono::{TimeDelta, Utc};
use diesel::{
    RunQueryDsl, sql_query,
    sql_types::{Integer, Text, Uuid as SqlUuid},
};
use proptest::prelude::*;
use shared::{
    kinds,
    outbox::OutboxRow,
    statement,
    task::{Lane, Priority, Queue, Status, TaskId},
    topology,
};
use std::time::Duration;
use uuid::Uuid;

/// Nobody waits for a publisher here: every row is the relay's at once.
const PATIENCE: Duration = Duration::ZERO;

statement! {
    /// What is to be published to workers.
    struct Waiting -> (SqlUuid, Integer) { dead: Text = &'static str }
    "SELECT task_id, attempt FROM outbox WHERE exchange <> ?"
}

/// The name of the limit.
pub(super) const LIMIT: &str = "tenant";

fn caller() -> Caller {
    Caller {
        key_id: Uuid::nil(),
        name: "model".into(),
        scopes: Scopes::default(),
        budget: None,
    }
}

fn deed<'a>(by: &'a Caller, action: &'static str) -> Deed<'a> {
    Deed {
        by,
        action,
        details: None,
        is_bulk: false,
    }
}

impl Machine<'_> {
    pub(super) fn accept(&mut self, order: Order) {
        let now = Utc::now();
        let later = Some(now + TimeDelta::hours(1));
        let name = if order.mail {
            "email.send"
        } else {
            "demo.noop"
        };
        let kind = kinds::find(name).unwrap();
        let task = NewTask {
            id: TaskId::now(),
            kind,
            queue: kind.queue,
            priority: Priority::DEFAULT,
            payload: "{}".into(),
            content_ttl_s: None,
            files: Vec::new(),
            refusal: None,
            max_attempts: order.max_attempts,
            time_limits: TimeLimits::default(),
            on_worker_lost: order.on_worker_lost,
            tags: Vec::new(),
            limit_key: order.limited.then(|| LIMIT.to_owned()),
            result_ttl_s: None,
            run_at: later.filter(|_| order.scheduled),
            useful_until: later.filter(|_| order.expires),
            created_at: now,
            created_by: Uuid::nil(),
            traceparent: None,
        };
        let submissions = [Submission {
            tasks: vec![task],
            idempotency: None,
        }];
        let statement = Accept::new(&submissions, PATIENCE, None);
        accept::run(self.connection, &statement, &submissions).unwrap();
    }

    pub(super) fn outbox(&mut self) -> Vec<Key> {
        let statement = Waiting {
            dead: topology::DEAD,
        };
        (&statement).load(self.connection).unwrap()
    }

    pub(super) fn overdue(&mut self, limit: usize) -> Vec<OutboxRow> {
        let statement = TakeOverdue {
            again_seconds: 0.0,
            limit: i64::try_from(limit).unwrap(),
        };
        statement.run(self.connection).unwrap()
    }

    /// Declares it dead, be it so or not; only who knows its latest beat can.
    pub(super) fn declare(&mut self, worker: At) -> Outcome {
        let Some(place) = worker.of(self.workers.len()) else {
            return Ok(Done::default());
        };
        let id = self.workers[place].id;
        let alive = workers::alive(self.connection).unwrap();
        if let Some((_, beats)) = alive.into_iter().find(|(alive, _)| *alive == id) {
            prop_assert!(!workers::declare_lost(self.connection, id, beats - 1).unwrap());
            prop_assert!(workers::declare_lost(self.connection, id, beats).unwrap());
        }
        if self.workers[place].crashed {
            self.workers.swap_remove(place);
        }
        Ok(Done::default())
    }

    pub(super) fn rescue(&mut self, limit: u8) -> Done {
        rescue::rescue(self.connection, limit.into(), PATIENCE).unwrap();
        Done {
            rescued: true,
            ..Done::default()
        }
    }

    pub(super) fn elapse(&mut self, task: At, useful: bool) {
        let column = if useful { "useful_until" } else { "due_at" };
        if let Some(id) = self.task(task) {
            let sql = format!(
                "UPDATE tasks SET {column} = now() - interval '1 second' WHERE id = $1 AND {column} IS NOT NULL"
            );
            let statement = sql_query(sql).bind::<SqlUuid, _>(id);
            statement.execute(self.connection).unwrap();
        }
    }

    pub(super) fn promote(&mut self) -> Done {
        let statement = PromoteDue {
            limit: 100,
            exchange: topology::TASKS,
            relay_seconds: 0.0,
        };
        let rows = statement.run(self.connection).unwrap();
        Done {
            promoted: rows.iter().map(|row| row.task_id).collect(),
            ..Done::default()
        }
    }

    pub(super) fn republish(&mut self) {
        let seen = epoch::current(self.connection).unwrap();
        epoch::begin(self.connection, seen).unwrap();
    }

    /// Every queue has been empty for as long as it takes.
    pub(super) fn requeue(&mut self) {
        let lanes = Queue::ALL.iter().flat_map(|queue| {
            let lanes = Lane::ALL.iter();
            lanes.map(|lane| topology::routing_key(*queue, *lane))
        });
        let statement = RequeueLost {
            lanes: lanes.collect(),
            lost_after_seconds: -100_000.0,
            limit: 100,
            exchange: topology::TASKS,
            relay_seconds: 0.0,
        };
        statement.run(self.connection).unwrap();
    }

    pub(super) fn cancel(&mut self, task: At) -> Done {
        let Some(id) = self.task(task) else {
            return Done::default();
        };
        let (by, chosen) = (caller(), Chosen::one(TaskId(id), &operate::LIVE));
        operate::cancel(self.connection, &chosen, &deed(&by, "task.cancel")).unwrap();
        Done {
            cancelled: Some(id),
            ..Done::default()
        }
    }

    pub(super) fn replay(&mut self, task: At) -> Done {
        let Some(id) = self.task(task) else {
            return Done::default();
        };
        let (by, chosen) = (caller(), Chosen::one(TaskId(id), &operate::REPLAYABLE));
        let deed = deed(&by, "task.retry");
        let rows = operate::replay(self.connection, &chosen, PATIENCE, &deed).unwrap();
        Done {
            replayed: rows.first().map(|row| row.task_id),
            ..Done::default()
        }
    }

    pub(super) fn reschedule(&mut self, task: At) -> Done {
        let Some(id) = self.task(task) else {
            return Done::default();
        };
        let (by, later) = (caller(), Utc::now() + TimeDelta::hours(1));
        let deed = deed(&by, "task.reschedule");
        let moved = operate::reschedule(self.connection, TaskId(id), later, &deed).unwrap();
        Done {
            rescheduled: (moved == operate::Rescheduled::Done).then_some(id),
            ..Done::default()
        }
    }

    pub(super) fn resolve(&mut self, task: At, completed: bool) -> Done {
        let Some(id) = self.task(task) else {
            return Done::default();
        };
        let status = if completed {
            Status::Completed
        } else {
            Status::Failed
        };
        let by = caller();
        let deed = deed(&by, "task.resolve");
        let resolved = operate::resolve(self.connection, TaskId(id), status, &deed).unwrap();
        Done {
            resolved: resolved.then_some(id),
            ..Done::default()
        }
    }
}
