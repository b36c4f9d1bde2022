//! The two listeners: the API, and health and metrics for those inside.

use super::{AppState, configure, configure_internal, edge::edge};
use actix_web::{App, HttpServer, dev::ServerHandle, middleware::from_fn, web::Data};
use std::{io, net::SocketAddr, time::Duration};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Bytes of an answer that wait for its connection before more of it is made. With actix's 32 KiB, a thousand streams whose
/// clients don't read would cost as many of those.
const WRITE_BUFFER: usize = 8 << 10;
/// Idle connections are kept this long, a little longer than load balancers do.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(
        "{key} = {address} can't be listened on; free that port or set {variable} to another (port 0 picks one)"
    )]
    Bind {
        key: &'static str,
        variable: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
}

/// Both listeners are open.
#[derive(Debug)]
pub struct Listening {
    /// Where the API is; with the port that was given for port 0.
    pub api: SocketAddr,
    /// Where health and metrics are without a key.
    pub internal: SocketAddr,
    /// Ends when both have stopped, after `AppState::stop` was cancelled and what was running has finished
    /// or `service.shutdown_grace_s` have passed.
    pub finished: JoinHandle<io::Result<()>>,
}

/// Opens both listeners and serves until `stop`; must be called in a tokio runtime. Health says that the
/// service is stopping from then on, and requests that are running are finished.
pub fn serve(state: &Data<AppState>, stop: CancellationToken) -> Result<Listening, ServeError> {
    let http = state.config.http.clone();
    // actix counts connections by worker.
    let workers = http.workers.max(1);
    let grace = state.config.service.shutdown_grace_s;

    let api_state = state.clone();
    let api = HttpServer::new(move || {
        App::new()
            .wrap(from_fn(edge))
            .configure(configure(api_state.clone()))
    })
    .workers(workers)
    .max_connections(http.max_connections.div_ceil(workers))
    .backlog(4096)
    .keep_alive(KEEP_ALIVE)
    .h1_write_buffer_size(WRITE_BUFFER)
    // A caller who hangs up gives up its place among those who wait.
    .h1_allow_half_closed(false)
    .tcp_nodelay(true)
    .shutdown_timeout(grace)
    .disable_signals()
    .bind(http.listen)
    .map_err(|source| ServeError::Bind {
        key: "http.listen",
        variable: "WARREN__HTTP__LISTEN",
        address: http.listen,
        source,
    })?;

    let internal_state = state.clone();
    let internal = HttpServer::new(move || {
        App::new()
            .wrap(from_fn(edge))
            .configure(configure_internal(internal_state.clone()))
    })
    .workers(1)
    .shutdown_timeout(1)
    .disable_signals()
    .bind(http.metrics_listen)
    .map_err(|source| ServeError::Bind {
        key: "http.metrics_listen",
        variable: "WARREN__HTTP__METRICS_LISTEN",
        address: http.metrics_listen,
        source,
    })?;

    let api_address = first(&api.addrs(), http.listen);
    let internal_address = first(&internal.addrs(), http.metrics_listen);
    let (api, internal) = (api.run(), internal.run());
    tokio::spawn(stop_both(stop, api.handle(), internal.handle()));
    tracing::info!(http.listen = %api_address, http.metrics_listen = %internal_address, "listening");
    let finished = tokio::spawn(async move {
        let (api, internal) = futures_util::future::join(api, internal).await;
        api.and(internal)
    });
    Ok(Listening {
        api: api_address,
        internal: internal_address,
        finished,
    })
}

fn first(bound: &[SocketAddr], asked: SocketAddr) -> SocketAddr {
    bound.first().copied().unwrap_or(asked)
}

async fn stop_both(stop: CancellationToken, api: ServerHandle, internal: ServerHandle) {
    stop.cancelled().await;
    // Health goes on answering until the last request is done.
    api.stop(true).await;
    internal.stop(true).await;
}
