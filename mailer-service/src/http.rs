//! Health and metrics of the worker, on an address that stays inside.

use crate::heartbeat::Identity;
use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, web};
use serde_json::json;
use shared::{broker::LinkState, gate::Gate, telemetry};
use std::net::{SocketAddr, TcpListener};
use tokio::sync::watch;

/// What health is told from.
#[derive(Clone)]
pub struct Health {
    /// Whether the lease is held, which needs the database.
    pub lease: Identity,
    /// Opens with the first lease.
    pub registered: Gate,
    pub consuming: watch::Receiver<LinkState>,
    pub publishing: watch::Receiver<LinkState>,
}

impl Health {
    fn answer(&self) -> (bool, serde_json::Value) {
        let (consuming, publishing) = (*self.consuming.borrow(), *self.publishing.borrow());
        let leased = self.registered.is_open() && self.lease.is_held();
        let ready = leased && consuming == LinkState::Up && publishing == LinkState::Up;
        let text = |state| match state {
            LinkState::Up => "up",
            LinkState::Down => "down",
            LinkState::Blocked => "blocked",
        };
        let body = json!({
            "status": if ready { "ok" } else { "degraded" },
            "app_name": "mailer-service",
            "version": env!("CARGO_PKG_VERSION"),
            "timestamp": chrono::Utc::now(),
            // Renewed in the database every few seconds; without it nothing is claimed.
            "lease": if leased { "held" } else { "lost" },
            "broker": { "consuming": text(consuming), "publishing": text(publishing) },
        });
        (ready, body)
    }
}

/// Binds and starts the server; returns what stops it, and its address.
pub fn serve(listen: SocketAddr, health: Health) -> std::io::Result<(ServerHandle, SocketAddr)> {
    let listener = TcpListener::bind(listen).map_err(|error| {
        std::io::Error::new(
            error.kind(),
            format!("can't listen on {listen} (worker.http_listen): {error}"),
        )
    })?;
    let address = listener.local_addr()?;
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(health.clone()))
            .route("/health", web::get().to(report))
            .route(
                "/health/live",
                web::get().to(async || HttpResponse::Ok().json(json!({"status": "ok"}))),
            )
            .route("/health/ready", web::get().to(ready))
            .route("/metrics", web::get().to(metrics))
    })
    .workers(1)
    .disable_signals()
    .shutdown_timeout(1)
    .listen(listener)?
    .run();
    let handle = server.handle();
    tokio::spawn(server);
    Ok((handle, address))
}

async fn report(health: web::Data<Health>) -> HttpResponse {
    HttpResponse::Ok().json(health.answer().1)
}

async fn ready(health: web::Data<Health>) -> HttpResponse {
    match health.answer() {
        (true, body) => HttpResponse::Ok().json(body),
        (false, body) => HttpResponse::ServiceUnavailable().json(body),
    }
}

async fn metrics() -> HttpResponse {
    match telemetry::metrics() {
        Ok(handle) => HttpResponse::Ok()
            .content_type("text/plain; version=0.0.4")
            .body(handle.render()),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "no metrics");
            HttpResponse::InternalServerError().finish()
        }
    }
}
