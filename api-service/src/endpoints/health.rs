//! `GET /health`, `/health/live`, `/health/ready`: for people, monitors and orchestrators. Open to everybody,
//! also below `/api/v1`, on both listeners.

use crate::app::{AppState, Endpoint};
use actix_web::{
    HttpResponse,
    web::{Data, ServiceConfig},
};
use chrono::Utc;
use diesel::RunQueryDsl;
use serde::Serialize;
use shared::{broker::LinkState, db::Pool};
use std::{
    fmt,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

pub fn configure(app: &mut ServiceConfig) {
    for path in ["/health", "/api/v1/health"] {
        app.service(Endpoint::at(path).get(health).build());
    }
    for path in ["/health/live", "/api/v1/health/live"] {
        app.service(Endpoint::at(path).get(live).build());
    }
    for path in ["/health/ready", "/api/v1/health/ready"] {
        app.service(Endpoint::at(path).get(ready).build());
    }
}

/// How the service is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Ok,
    /// Tasks are accepted and safe, but don't reach the workers at present.
    Degraded,
    /// Nothing can be accepted.
    Down,
}

/// How a part that the service needs is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    Up,
    Down,
    /// The broker is connected and takes no messages: it is short of memory or disk.
    Blocked,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct HealthReport {
    pub status: Health,
    #[schema(example = "api-service")]
    pub app_name: &'static str,
    #[schema(example = "0.1.0")]
    pub version: &'static str,
    #[schema(format = DateTime, example = "2026-11-22T08:00:00.000Z")]
    pub timestamp: String,
    pub database: Link,
    pub broker: Link,
    /// Seconds since this process started.
    pub uptime_s: u64,
    /// The service has been told to stop and takes no new connections.
    pub stopping: bool,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct HealthStatus {
    pub status: Health,
}

/// Health.
#[utoipa::path(
    get,
    path = "/api/v1/health",
    tag = "Operation",
    operation_id = "getHealth",
    summary = "Health",
    description = "200 as long as tasks can be accepted, which needs the database alone: with the broker down the status is `degraded`, accepted tasks are safe and go out when it is back. Also at `/health`.",
    security(()),
    responses(
        (status = 200, description = "Tasks can be accepted", body = HealthReport),
        (status = 503, description = "The database does not answer", body = HealthReport),
    )
)]
pub async fn health(state: Data<AppState>) -> HttpResponse {
    let database = state.database.is_up().await;
    let broker = match *state.broker.borrow() {
        LinkState::Up => Link::Up,
        LinkState::Down => Link::Down,
        LinkState::Blocked => Link::Blocked,
    };
    let status = match (database, broker) {
        (false, _) => Health::Down,
        (true, Link::Up) => Health::Ok,
        (true, _) => Health::Degraded,
    };
    answer(status).json(HealthReport {
        status,
        app_name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        timestamp: Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        database: if database { Link::Up } else { Link::Down },
        broker,
        uptime_s: state.started.elapsed().as_secs(),
        stopping: state.stop.is_cancelled(),
    })
}

/// Whether the process runs.
#[utoipa::path(
    get,
    path = "/api/v1/health/live",
    tag = "Operation",
    operation_id = "getLiveness",
    summary = "Liveness",
    description = "200 as long as the process answers at all: restart it when it does not. Also at `/health/live`.",
    security(()),
    responses((status = 200, description = "The process runs", body = HealthStatus))
)]
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json(HealthStatus { status: Health::Ok })
}

/// Whether requests should be sent here.
#[utoipa::path(
    get,
    path = "/api/v1/health/ready",
    tag = "Operation",
    operation_id = "getReadiness",
    summary = "Readiness",
    description = "200 while requests should be sent here: the database answers and the service is not stopping. Also at `/health/ready`.",
    security(()),
    responses(
        (status = 200, description = "Send requests", body = HealthStatus),
        (status = 503, description = "Send none", body = HealthStatus),
    )
)]
pub async fn ready(state: Data<AppState>) -> HttpResponse {
    let is_ready = !state.stop.is_cancelled() && state.database.is_up().await;
    let status = if is_ready { Health::Ok } else { Health::Down };
    answer(status).json(HealthStatus { status })
}

fn answer(status: Health) -> actix_web::HttpResponseBuilder {
    match status {
        Health::Ok | Health::Degraded => HttpResponse::Ok(),
        Health::Down => HttpResponse::ServiceUnavailable(),
    }
}

/// Asks the database whether it is there, with our tables in it, at most twice a second however many ask for health.
pub struct Probe {
    pool: Pool,
    latest: Mutex<Option<(Instant, bool)>>,
}

const FRESH: Duration = Duration::from_millis(500);
/// A database that takes longer is as good as away.
const PATIENCE: Duration = Duration::from_secs(2);

impl Probe {
    pub fn new(pool: Pool) -> Self {
        Self {
            pool,
            latest: Mutex::default(),
        }
    }

    pub async fn is_up(&self) -> bool {
        let mut latest = self.latest.lock().await;
        if let Some((when, is_up)) = *latest
            && when.elapsed() < FRESH
        {
            return is_up;
        }
        let asking = self
            .pool
            .run(|connection| diesel::sql_query("SELECT FROM tasks LIMIT 1").execute(connection));
        let is_up = matches!(tokio::time::timeout(PATIENCE, asking).await, Ok(Ok(_)));
        *latest = Some((Instant::now(), is_up));
        is_up
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}
