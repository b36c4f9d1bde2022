//! The yardstick: a bare actix server that answers each POST with its body, in a process of its own.
//!
//! What it reaches under the same load is the most that an HTTP API on this stack could reach on this machine at this
//! moment, so the ratio to it can be compared between machines and noisy hours where requests a second can't.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;

use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Serves on a free port, which it prints, until its input ends: with its owner at the latest.
pub fn serve(workers: usize) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").context("the echo server cannot listen")?;
    println!("{}", listener.local_addr()?);
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    actix_web::rt::System::new().block_on(async {
        HttpServer::new(|| App::new().route("/echo", web::post().to(echo)))
            .workers(workers)
            .disable_signals()
            .listen(listener)?
            .run()
            .await
    })?;
    Ok(())
}

async fn echo(body: web::Bytes) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(body)
}

/// The running server; dropping it ends it.
#[derive(Debug)]
pub struct Echo {
    child: Child,
    address: SocketAddr,
}

impl Echo {
    pub async fn start(workers: usize) -> Result<Self> {
        let program =
            std::env::current_exe().context("this program does not know where it lies")?;
        let mut child = Command::new(program)
            .args(["echo", "--workers", &workers.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the echo server")?;
        let output = child
            .stdout
            .take()
            .context("the echo server has no output")?;
        let line = BufReader::new(output).lines().next_line().await?;
        let address = line
            .as_deref()
            .unwrap_or_default()
            .parse()
            .context("the echo server did not say its address")?;
        Ok(Self { child, address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }
}
