//! One proxied connection: two pumps, each a reader that stamps what it read and a writer that lets it go in time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Mode;

/// Chunks under way in one direction; beyond them the sender feels the backpressure.
const UNDER_WAY: usize = 256;
const CHUNK: usize = 16 * 1024;

struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
}

/// Passes bytes both ways until both ends are closed, one of them breaks, or the proxy is cut.
pub(super) async fn connect_and_pass(
    client: TcpStream,
    upstream: &str,
    mut modes: watch::Receiver<Mode>,
    bytes: &AtomicU64,
) {
    let mut until_cut = modes.clone();
    let pass = async {
        // A stalled network does not even show whether the far end is there.
        passing(&mut modes).await;
        let Ok(server) = TcpStream::connect(upstream).await else {
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        // An end of one direction is passed on and the other direction goes on; a broken one ends both.
        let _ = tokio::try_join!(
            direction(client_read, server_write, modes.clone(), bytes),
            direction(server_read, client_write, modes.clone(), bytes),
        );
    };
    tokio::select! {
        () = pass => {}
        _ = until_cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn direction(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
    bytes: &AtomicU64,
) -> std::io::Result<()> {
    let (sender, mut receiver) = mpsc::channel::<Chunk>(UNDER_WAY);
    let mut reading = modes.clone();
    let read = async move {
        loop {
            passing(&mut reading).await;
            let mut chunk = vec![0; CHUNK];
            let length = from.read(&mut chunk).await?;
            if length == 0 {
                return std::io::Result::Ok(());
            }
            chunk.truncate(length);
            let by = match *reading.borrow() {
                Mode::Pass(by) => by,
                Mode::Stall | Mode::Cut => Duration::ZERO,
            };
            if sender
                .send(Chunk {
                    due: Instant::now() + by,
                    bytes: chunk,
                })
                .await
                .is_err()
            {
                return Ok(());
            }
        }
    };
    let write = async {
        while let Some(chunk) = receiver.recv().await {
            tokio::time::sleep_until(chunk.due).await;
            passing(&mut modes).await;
            to.write_all(&chunk.bytes).await?;
            bytes.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(|_| ())
}

/// Waits until bytes may pass.
async fn passing(modes: &mut watch::Receiver<Mode>) {
    if modes
        .wait_for(|mode| matches!(mode, Mode::Pass(_)))
        .await
        .is_err()
    {
        // The proxy is gone, and with it this connection.
        std::future::pending::<()>().await;
    }
}
