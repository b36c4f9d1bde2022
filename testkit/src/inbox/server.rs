//! The threads of an inbox. They are its own, so that it lives on while a test's single-threaded runtime is busy.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, mpsc},
    thread,
};

use actix_web::dev::Server;
use anyhow::Context as _;
use tokio::{runtime, sync::oneshot};

use super::{Addresses, Shared, http, smtp};

struct Listeners {
    smtp: TcpListener,
    smtps: Option<TcpListener>,
    http: TcpListener,
}

/// Binds the ports and starts serving. The receiver hears when everything has ended and the ports are free.
pub(super) fn spawn(shared: &Arc<Shared>) -> anyhow::Result<(Addresses, oneshot::Receiver<()>)> {
    let options = &shared.options;
    let listeners = Listeners {
        smtp: bind(options.smtp)?,
        smtps: options.smtps.map(bind).transpose()?,
        http: bind(options.http)?,
    };
    let addresses = Addresses {
        smtp: listeners.smtp.local_addr()?,
        smtps: listeners
            .smtps
            .as_ref()
            .map(TcpListener::local_addr)
            .transpose()?,
        http: listeners.http.local_addr()?,
    };
    let (started_tx, started) = mpsc::channel();
    let (ended_tx, ended) = oneshot::channel();
    let shared = Arc::clone(shared);
    thread::Builder::new()
        .name("inbox".to_owned())
        .spawn(move || {
            run(&shared, listeners, &started_tx);
            // Nobody may be waiting for the end.
            let _ = ended_tx.send(());
        })
        .context("starting the inbox's thread")?;
    started
        .recv()
        .context("the inbox's thread ended while it started")??;
    Ok((addresses, ended))
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn run(shared: &Arc<Shared>, listeners: Listeners, started: &mpsc::Sender<anyhow::Result<()>>) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(error.into()));
            return;
        }
    };
    runtime.block_on(async {
        match serve(shared, listeners) {
            Ok(server) => {
                let _ = started.send(Ok(()));
                until_ended(server, shared).await;
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        }
    });
    // Dropping the runtime drops the SMTP listeners and connections.
}

fn serve(shared: &Arc<Shared>, listeners: Listeners) -> anyhow::Result<Server> {
    let server = http::server(listeners.http, shared)?;
    let ports = [(Some(listeners.smtp), false), (listeners.smtps, true)];
    for (listener, implicit_tls) in ports {
        let Some(listener) = listener else { continue };
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::spawn(smtp::listen(listener, implicit_tls, Arc::clone(shared)));
    }
    Ok(server)
}

async fn until_ended(server: Server, shared: &Shared) {
    let handle = server.handle();
    let end = async {
        shared.gate.ended().await;
        handle.stop(false).await;
    };
    let (outcome, ()) = tokio::join!(server, end);
    if let Err(error) = outcome {
        tracing::error!(error = %error, "inbox's HTTP server failed");
    }
}
