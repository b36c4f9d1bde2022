//! `/queues`: what waits, from RabbitMQ and PostgreSQL together; pausing and resuming.

use super::{
    pausing::{PauseRequest, PauseResource, paused_by},
    request::OptionalBody,
    tasks::resource::Timestamp,
};
use crate::{
    app::{AppState, Endpoint},
    auth::{Operator, Reader},
    depths::Answer,
    problem::{Problem, ProblemSchema, ProblemType},
    queries::{
        load::{self, LOOKED_AT, LaneLoad, Rate},
        policy::{self, Pause},
        workers::{self, Slots},
    },
};
use actix_web::{
    HttpResponse,
    web::{Data, Path, ServiceConfig},
};
use chrono::Utc;
use serde::Serialize;
use shared::{
    limits::Scope,
    task::{Lane, Queue},
    topology,
};
use std::collections::HashMap;

pub fn configure(app: &mut ServiceConfig) {
    app.service(Endpoint::at("/queues").get(list).build())
        .service(Endpoint::at("/queues/{queue}/pause").post(pause).build())
        .service(Endpoint::at("/queues/{queue}/resume").post(resume).build());
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Queues)]
pub struct QueueList {
    queues: Vec<QueueResource>,
    /// Whether RabbitMQ answered; if not, `ready` and `consumers` are null.
    broker: &'static str,
    /// The counts from PostgreSQL are of the oldest 200,000 live tasks; false: there are more.
    complete: bool,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QueueState)]
pub struct QueueResource {
    #[schema(value_type = Queue)]
    name: &'static str,
    /// Set while nothing of it is begun.
    paused: Option<PauseResource>,
    /// Workers that take from it now.
    workers: i64,
    /// Tasks that they run at a time, all together.
    slots: i64,
    /// Running now.
    running: i64,
    /// Messages that workers hold and have not acknowledged: of what runs, and of what waits there for a slot.
    unacked: i64,
    lanes: Vec<LaneResource>,
    /// Accepted per second, over the last minute.
    rate_in: f64,
    /// Finished per second, over the last minute.
    rate_out: f64,
}

/// A part of a queue that a range of priorities goes through; a RabbitMQ queue of its own.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QueueLane)]
pub struct LaneResource {
    #[schema(value_type = Lane)]
    lane: &'static str,
    /// Its name in RabbitMQ.
    #[schema(example = "warren.tasks.mail.normal")]
    queue: String,
    /// Messages in RabbitMQ that no worker holds.
    ready: Option<u32>,
    consumers: Option<u32>,
    /// Ready to run, by PostgreSQL: in RabbitMQ, held by a worker, or about to be published.
    waiting: i64,
    /// Until a time: scheduled, or between two attempts.
    scheduled: i64,
    /// Over a limit, or of a paused kind.
    limited: i64,
    running: i64,
    /// Since when the one that waits longest has been ready.
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    oldest_waiting_since: Option<Timestamp>,
    oldest_waiting_s: Option<f64>,
    rate_in: f64,
    rate_out: f64,
}

/// All queues.
#[utoipa::path(
    get,
    path = "/api/v1/queues",
    tag = "Operation",
    operation_id = "listQueues",
    summary = "What waits and runs",
    description = "From RabbitMQ (ready, consumers), PostgreSQL (waiting, scheduled, limited, running, rates) and the workers' reports (slots, unacked; up to `rescue.heartbeat_s` old). Needs the scope `read`.",
    responses((status = 200, description = "The queues with their lanes", body = QueueList))
)]
pub async fn list(state: Data<AppState>, _reader: Reader) -> Result<HttpResponse, Problem> {
    let depths = state.depths.ask().await;
    let (lanes, rates, pauses, slots) = state
        .pool
        .run(|connection| {
            Ok((
                load::lanes(connection)?,
                load::rates(connection)?,
                policy::pauses(connection)?,
                workers::slots(connection)?,
            ))
        })
        .await?;
    let seen = Seen {
        depths: depths.as_ref(),
        lanes: &lanes,
        rates: &by_lane(&rates),
        pauses: &pauses,
        slots: &slots,
    };
    Ok(HttpResponse::Ok().json(QueueList {
        queues: Queue::ALL.iter().map(|queue| seen.queue(*queue)).collect(),
        broker: if depths.is_some() { "up" } else { "down" },
        complete: lanes.first().is_none_or(|lane| lane.looked_at < LOOKED_AT),
    }))
}

type LaneRates = HashMap<(String, String), Rate>;

fn by_lane(rates: &HashMap<(String, String, String), Rate>) -> LaneRates {
    let mut lanes = LaneRates::new();
    for ((queue, lane, _), rate) in rates {
        let sum = lanes.entry((queue.clone(), lane.clone())).or_default();
        sum.accepted += rate.accepted;
        sum.attempts += rate.attempts;
        sum.finished += rate.finished;
        sum.busy += rate.busy;
    }
    lanes
}

struct Seen<'a> {
    depths: Option<&'a Answer>,
    lanes: &'a [LaneLoad],
    rates: &'a LaneRates,
    pauses: &'a [Pause],
    slots: &'a HashMap<String, Slots>,
}

impl Seen<'_> {
    fn queue(&self, queue: Queue) -> QueueResource {
        let lanes: Vec<_> = Lane::ALL
            .iter()
            .map(|lane| self.lane(queue, *lane))
            .collect();
        let slots = self.slots.get(queue.as_str()).copied().unwrap_or_default();
        QueueResource {
            name: queue.as_str(),
            paused: paused_by(self.pauses, Scope::Queue, queue.as_str()),
            workers: slots.workers,
            slots: slots.slots,
            running: lanes.iter().map(|lane| lane.running).sum(),
            unacked: slots.unacked,
            rate_in: lanes.iter().map(|lane| lane.rate_in).sum(),
            rate_out: lanes.iter().map(|lane| lane.rate_out).sum(),
            lanes,
        }
    }

    fn lane(&self, queue: Queue, lane: Lane) -> LaneResource {
        let found = self
            .lanes
            .iter()
            .find(|load| load.queue == queue.as_str() && load.lane == lane.as_str());
        let load = found.cloned().unwrap_or_default();
        let key = (queue.as_str().to_owned(), lane.as_str().to_owned());
        let rate = self.rates.get(&key).copied().unwrap_or_default();
        let depth = self.depths.and_then(|all| all.get(&(queue, lane)));
        #[expect(clippy::cast_precision_loss, reason = "a time span in milliseconds")]
        let age = |since: chrono::DateTime<Utc>| {
            (Utc::now() - since).num_milliseconds().max(0) as f64 / 1000.0
        };
        LaneResource {
            lane: lane.as_str(),
            queue: topology::task_queue(queue, lane),
            ready: depth.map(|depth| depth.ready),
            consumers: depth.map(|depth| depth.consumers),
            waiting: load.waiting,
            scheduled: load.scheduled,
            limited: load.limited,
            running: load.running,
            oldest_waiting_since: load.oldest.map(Timestamp),
            oldest_waiting_s: load.oldest.map(age),
            rate_in: rate.accepted,
            rate_out: rate.finished,
        }
    }
}

/// Pauses a queue.
#[utoipa::path(
    post,
    path = "/api/v1/queues/{queue}/pause",
    tag = "Operation",
    operation_id = "pauseQueue",
    summary = "Pause a queue",
    description = "Workers begin nothing of it from two seconds later at the latest; what runs finishes, and accepting goes on. Survives restarts. Needs the scope `operate`.",
    params(("queue" = Queue, Path)),
    request_body = Option<PauseRequest>,
    responses(
        (status = 200, description = "It is paused", body = PauseResource),
        (status = 404, description = "`queue-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn pause(
    state: Data<AppState>,
    Operator(caller): Operator,
    queue: Path<String>,
    body: OptionalBody,
) -> Result<HttpResponse, Problem> {
    let queue = of_name(&queue)?;
    super::pausing::pause(&state, Scope::Queue, queue.as_str(), caller, body).await
}

/// Resumes a queue.
#[utoipa::path(
    post,
    path = "/api/v1/queues/{queue}/resume",
    tag = "Operation",
    operation_id = "resumeQueue",
    summary = "Resume a queue",
    description = "Needs the scope `operate`.",
    params(("queue" = Queue, Path)),
    responses(
        (status = 204, description = "It is not paused"),
        (status = 404, description = "`queue-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn resume(
    state: Data<AppState>,
    Operator(caller): Operator,
    queue: Path<String>,
) -> Result<HttpResponse, Problem> {
    let queue = of_name(&queue)?;
    super::pausing::resume(&state, Scope::Queue, queue.as_str(), caller).await
}

fn of_name(name: &str) -> Result<Queue, Problem> {
    Queue::parse(name).ok_or_else(|| Problem::new(ProblemType::QueueNotFound))
}
