//! The SMTP server: listeners, and one task a connection.
//!
//! It all runs on one thread: a mail is a few small reads and writes, and on loopback handing these between
//! threads costs more than it gains.

use std::{io, sync::Arc, time::Duration};

use tokio::net::{TcpListener, TcpStream};

use self::{session::Session, wire::Wire};
use super::Shared;

mod auth;
mod command;
mod data;
mod misbehave;
mod path;
mod session;
mod transaction;
mod wire;

/// What to do with the connection after a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Continue,
    Close,
    StartTls,
}

/// Pause after a failed `accept`, e.g. with too many open files, so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Takes connections until the inbox ends; `implicit_tls` starts each with a TLS handshake.
pub(super) async fn listen(listener: TcpListener, implicit_tls: bool, shared: Arc<Shared>) {
    loop {
        shared.gate.opened().await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(error = %error, "inbox could not accept an SMTP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        shared.gate.opened().await;
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let cut = shared.gate.token();
            let outcome = cut
                .run_until_cancelled(connection(stream, implicit_tls, &shared))
                .await;
            if let Some(Err(error)) = outcome {
                tracing::debug!(error = %error, "SMTP connection ended early");
            }
        });
    }
}

async fn connection(stream: TcpStream, implicit_tls: bool, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let client = stream.peer_addr()?;
    let Some(_place) = shared.gate.enter() else {
        // A client of the TLS port can't read this, but it sees the end.
        return refuse(stream, shared).await;
    };
    if implicit_tls {
        return encrypted(stream, Session::new(shared, client, true), true, shared).await;
    }
    let mut session = Session::new(shared, client, false);
    let mut wire = Wire::new(stream, shared.options.command_timeout);
    match session.serve(&mut wire, true).await? {
        // Whatever was sent in the clear behind STARTTLS is dropped with the wire (RFC 3207, 4.2).
        Flow::StartTls => {
            encrypted(
                wire.into_stream(),
                Session::new(shared, client, true),
                false,
                shared,
            )
            .await
        }
        Flow::Continue | Flow::Close => Ok(()),
    }
}

async fn encrypted(
    stream: TcpStream,
    mut session: Session<'_>,
    greet: bool,
    shared: &Shared,
) -> io::Result<()> {
    let timeout = shared.options.command_timeout;
    let stream = tokio::time::timeout(timeout, shared.identity.acceptor.accept(stream)).await??;
    let mut wire = Wire::new(stream, timeout);
    session.serve(&mut wire, greet).await?;
    wire.close().await
}

async fn refuse(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut wire = Wire::new(stream, shared.options.command_timeout);
    wire.reply(421, "4.7.0 Too many connections");
    wire.flush().await
}
