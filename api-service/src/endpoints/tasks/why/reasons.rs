//! From where a task stands to what is in its way, and until when: pure.

use super::{Reason, ReasonCode};
use crate::{
    endpoints::tasks::resource::Timestamp,
    queries::{
        why::{COUNTED, Stand},
        workers::Slots,
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use shared::{limits::Allowance, task::Status};

/// What counts besides the task.
pub(super) struct Seen {
    pub(super) slots: Slots,
    /// Of the limit that it waits for.
    pub(super) allowance: Option<Allowance>,
    pub(super) broker_is_up: bool,
    pub(super) now: DateTime<Utc>,
}

fn reason(code: ReasonCode, detail: impl Into<String>) -> Reason {
    Reason {
        code,
        detail: detail.into(),
        ahead: None,
        until: None,
    }
}

/// "5 tasks", "1 task", "more than 100,000 tasks".
fn tasks(count: i64) -> String {
    match count {
        1 => "1 task".into(),
        COUNTED.. => "more than 100,000 tasks".into(),
        count => format!("{count} tasks"),
    }
}

impl Seen {
    pub(super) fn reasons(&self, stand: &Stand) -> Vec<Reason> {
        let status = Status::parse(&stand.status);
        match status {
            Some(Status::Unknown) => {
                let detail = "Nobody can tell whether its work was done; a person must resolve it.";
                return vec![reason(ReasonCode::Unknown, detail)];
            }
            Some(Status::Processing) => {
                let worker = stand.worker.as_deref().unwrap_or("a worker");
                let detail = format!("Attempt {} runs on {worker}.", stand.attempt);
                return vec![reason(ReasonCode::Running, detail)];
            }
            Some(status) if status.is_final() => {
                return vec![reason(
                    ReasonCode::Finished,
                    format!("It is {status}, and final."),
                )];
            }
            _ => {}
        }
        let mut reasons = Vec::new();
        self.time_or_limit(stand, &mut reasons);
        self.pauses_and_workers(stand, &mut reasons);
        if reasons.is_empty() {
            self.messages(stand, &mut reasons);
        }
        reasons
    }

    fn time_or_limit(&self, stand: &Stand, reasons: &mut Vec<Reason>) {
        if let (Some(scope), Some(name)) = (&stand.wait_scope, &stand.wait_name) {
            // A paused kind has its own word.
            if let Some(allowance) = self.allowance {
                let mut parts = Vec::new();
                parts.extend(allowance.rate.map(|rate| format!("{rate} starts a second")));
                parts.extend(allowance.concurrency.map(|most| format!("{most} running")));
                let detail = format!(
                    "The limit of the {scope} {name:?} ({}) is reached; {} wait for it before this one.",
                    parts.join(", "),
                    tasks(stand.ahead_in_line)
                );
                reasons.push(Reason {
                    ahead: Some(stand.ahead_in_line),
                    ..reason(ReasonCode::Limit, detail)
                });
            }
            return;
        }
        let is_scheduled = stand.status == Status::Scheduled.as_str();
        let until = if is_scheduled {
            stand.due_at
        } else {
            stand.due_at.or(stand.next_attempt_at)
        };
        if let Some(until) = until.filter(|until| *until > self.now) {
            let (code, detail) = if is_scheduled {
                (
                    ReasonCode::Scheduled,
                    "It is scheduled for later.".to_owned(),
                )
            } else {
                let detail = format!("Attempt {} failed; the next has its time.", stand.attempt);
                (ReasonCode::RetryDelay, detail)
            };
            reasons.push(Reason {
                until: Some(Timestamp(until)),
                ..reason(code, detail)
            });
        }
    }

    fn pauses_and_workers(&self, stand: &Stand, reasons: &mut Vec<Reason>) {
        let (queue, kind) = (&stand.queue, &stand.kind);
        if stand.queue_is_paused {
            let detail = format!("The queue {queue} is paused (POST /queues/{queue}/resume).");
            reasons.push(reason(ReasonCode::QueuePaused, detail));
        }
        if stand.kind_is_paused {
            let detail = format!("The kind {kind} is paused (POST /kinds/{kind}/resume).");
            reasons.push(reason(ReasonCode::KindPaused, detail));
        }
        if self.slots.workers == 0 {
            let detail = format!("No worker takes from the queue {queue} now.");
            reasons.push(reason(ReasonCode::NoWorker, detail));
        } else if stand.knowing == 0 {
            let detail = format!("No worker of the queue {queue} knows the kind {kind}.");
            reasons.push(reason(ReasonCode::NoWorkerForKind, detail));
        }
    }

    fn messages(&self, stand: &Stand, reasons: &mut Vec<Reason>) {
        if !self.broker_is_up {
            let detail = "RabbitMQ is away; a worker gets the task's message when it is back.";
            reasons.push(reason(ReasonCode::BrokerDown, detail));
        } else if stand.is_unpublished {
            let detail = "RabbitMQ has not confirmed the task's message yet.";
            reasons.push(reason(ReasonCode::NotPublished, detail));
        }
        if stand.ahead_in_lane > 0 {
            let (queue, lane) = (&stand.queue, &stand.lane);
            let least = if stand.looked_at < COUNTED {
                ""
            } else {
                "At least "
            };
            let detail = format!(
                "{least}{} of lane {lane} of the queue {queue} were accepted before it.",
                tasks(stand.ahead_in_lane)
            );
            reasons.push(Reason {
                ahead: Some(stand.ahead_in_lane),
                ..reason(ReasonCode::Lane, detail)
            });
        }
        // Workers that have just begun have not said how many they have.
        if self.slots.slots > 0 && self.room() <= 0 && reasons.is_empty() {
            let Slots { slots, workers, .. } = self.slots;
            let detail = format!(
                "All {slots} slots of the queue {} are taken, at {workers} workers.",
                stand.queue
            );
            reasons.push(reason(ReasonCode::Slots, detail));
        }
    }

    /// Slots that no task has.
    fn room(&self) -> i64 {
        self.slots.slots - self.slots.running
    }

    /// By the work of the last minute; none where something stands in the way that only people can end.
    pub(super) fn estimate(&self, stand: &Stand, reasons: &[Reason]) -> Option<DateTime<Utc>> {
        let mut begin = self.now;
        for reason in reasons {
            let wait = match reason.code {
                ReasonCode::Scheduled | ReasonCode::RetryDelay => {
                    begin = begin.max(reason.until?.0);
                    continue;
                }
                ReasonCode::NotPublished => 0.0,
                ReasonCode::Limit => self.line_s(stand)?,
                ReasonCode::Lane | ReasonCode::Slots => self.lane_s(stand)?,
                ReasonCode::Finished
                | ReasonCode::Unknown
                | ReasonCode::Running
                | ReasonCode::QueuePaused
                | ReasonCode::KindPaused
                | ReasonCode::NoWorker
                | ReasonCode::NoWorkerForKind
                | ReasonCode::BrokerDown => return None,
            };
            begin += seconds(wait)?;
        }
        Some(begin)
    }

    /// Seconds until the line of its limit has come to it.
    fn line_s(&self, stand: &Stand) -> Option<f64> {
        let allowance = self.allowance?;
        let by_slots = allowance.concurrency.and_then(|most| {
            let attempt_s = stand.attempt_s.filter(|seconds| *seconds > 0.0)?;
            Some(f64::from(most) / attempt_s)
        });
        let rate = [allowance.rate, by_slots]
            .into_iter()
            .flatten()
            .reduce(f64::min)?;
        Some(count(stand.ahead_in_line + 1) / rate)
    }

    /// Seconds until its lane has come to it.
    fn lane_s(&self, stand: &Stand) -> Option<f64> {
        if stand.lane_rate > 0.0 {
            return Some(count(stand.ahead_in_lane + 1) / stand.lane_rate);
        }
        // Nothing ended in the last minute: at once if there is room for all, else nobody can tell.
        (stand.ahead_in_lane < self.room()).then_some(0.0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count up to 100,000")]
fn count(tasks: i64) -> f64 {
    tasks as f64
}

/// None: too far ahead to say.
fn seconds(wait: f64) -> Option<TimeDelta> {
    const FURTHEST: f64 = 366.0 * 86_400.0;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most a year in milliseconds"
    )]
    (wait <= FURTHEST).then(|| TimeDelta::milliseconds((wait * 1000.0) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting() -> Stand {
        Stand {
            kind: "demo.noop".into(),
            queue: "work".into(),
            lane: "low".into(),
            status: "PENDING".into(),
            attempt: 0,
            due_at: None,
            next_attempt_at: None,
            useful_until: None,
            started_at: None,
            worker: None,
            wait_scope: None,
            wait_name: None,
            is_unpublished: false,
            queue_is_paused: false,
            kind_is_paused: false,
            knowing: 1,
            ahead_in_lane: 0,
            looked_at: 0,
            ahead_in_line: 0,
            lane_rate: 0.0,
            attempt_s: None,
        }
    }

    fn seen() -> Seen {
        Seen {
            slots: Slots {
                workers: 1,
                slots: 8,
                running: 6,
                unacked: 6,
            },
            allowance: None,
            broker_is_up: true,
            now: Utc::now(),
        }
    }

    /// The codes, and the seconds until the estimated start.
    fn answer(seen: &Seen, stand: &Stand) -> (Vec<ReasonCode>, Option<i64>) {
        let reasons = seen.reasons(stand);
        let start = seen.estimate(stand, &reasons);
        let codes = reasons.iter().map(|reason| reason.code).collect();
        (codes, start.map(|start| (start - seen.now).num_seconds()))
    }

    #[test]
    fn a_lane_moves_as_it_did() {
        let mut stand = waiting();
        assert_eq!(answer(&seen(), &stand), (vec![], Some(0)));
        stand.ahead_in_lane = 99;
        assert_eq!(answer(&seen(), &stand), (vec![ReasonCode::Lane], None));
        stand.lane_rate = 5.0;
        assert_eq!(answer(&seen(), &stand), (vec![ReasonCode::Lane], Some(20)));
        stand.lane_rate = 0.0;
        stand.ahead_in_lane = 1;
        assert_eq!(answer(&seen(), &stand), (vec![ReasonCode::Lane], Some(0)));
    }

    #[test]
    fn the_first_of_its_lane_may_wait_for_a_slot() {
        let mut full = seen();
        full.slots.running = 8;
        let mut stand = waiting();
        assert_eq!(answer(&full, &stand), (vec![ReasonCode::Slots], None));
        stand.lane_rate = 0.1;
        assert_eq!(answer(&full, &stand), (vec![ReasonCode::Slots], Some(10)));
        stand.ahead_in_lane = 1;
        assert_eq!(answer(&full, &stand), (vec![ReasonCode::Lane], Some(20)));
    }

    #[test]
    fn what_was_not_looked_at_is_not_denied() {
        let mut stand = waiting();
        stand.ahead_in_lane = 7;
        let detail = |stand: &Stand| seen().reasons(stand)[0].detail.clone();
        assert!(detail(&stand).starts_with("7 tasks of lane low"));
        stand.looked_at = COUNTED;
        assert!(detail(&stand).starts_with("At least 7 tasks of lane low"));
    }

    #[test]
    fn what_only_people_can_end_has_no_estimate() {
        for (change, code) in [
            (
                (|stand| stand.queue_is_paused = true) as fn(&mut Stand),
                ReasonCode::QueuePaused,
            ),
            (|stand| stand.kind_is_paused = true, ReasonCode::KindPaused),
            (|stand| stand.knowing = 0, ReasonCode::NoWorkerForKind),
            (
                |stand| stand.status = "PROCESSING".into(),
                ReasonCode::Running,
            ),
            (|stand| stand.status = "UNKNOWN".into(), ReasonCode::Unknown),
            (
                |stand| stand.status = "EXPIRED".into(),
                ReasonCode::Finished,
            ),
        ] {
            let mut stand = waiting();
            change(&mut stand);
            assert_eq!(answer(&seen(), &stand), (vec![code], None));
        }
        let alone = Seen {
            slots: Slots::default(),
            ..seen()
        };
        assert_eq!(
            answer(&alone, &waiting()),
            (vec![ReasonCode::NoWorker], None)
        );
        let unplugged = Seen {
            broker_is_up: false,
            ..seen()
        };
        for is_unpublished in [true, false] {
            let mut stand = waiting();
            stand.is_unpublished = is_unpublished;
            let answer = answer(&unplugged, &stand);
            assert_eq!(answer, (vec![ReasonCode::BrokerDown], None));
        }
    }

    #[test]
    fn times_and_lines_are_waited_for() {
        let mut stand = waiting();
        stand.status = "SCHEDULED".into();
        let seen = seen();
        stand.due_at = Some(seen.now + TimeDelta::seconds(90));
        assert_eq!(
            answer(&seen, &stand),
            (vec![ReasonCode::Scheduled], Some(90))
        );
        let mut stand = waiting();
        stand.status = "RETRYING".into();
        stand.next_attempt_at = Some(seen.now + TimeDelta::seconds(5));
        assert_eq!(
            answer(&seen, &stand),
            (vec![ReasonCode::RetryDelay], Some(5))
        );
        let mut stand = waiting();
        stand.wait_scope = Some("kind".into());
        stand.wait_name = Some("demo.noop".into());
        stand.due_at = Some(seen.now + TimeDelta::minutes(10));
        stand.ahead_in_line = 19;
        stand.attempt_s = Some(8.0);
        let limited = Seen {
            allowance: Some(Allowance {
                rate: Some(2.0),
                concurrency: Some(4),
                ..Allowance::default()
            }),
            ..seen
        };
        // Four at a time, eight seconds each: one every two seconds.
        assert_eq!(
            answer(&limited, &stand),
            (vec![ReasonCode::Limit], Some(40))
        );
    }
}
