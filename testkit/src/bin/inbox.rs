//! The development mail server as a program: prints its addresses and serves until SIGINT or SIGTERM.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use testkit::inbox::{Auth, Inbox, InboxOptions};
use tokio::signal::unix::{SignalKind, signal};

/// A development mail server: SMTP in, REST API and web page out.
///
/// Recipients choose their own faults, e.g. `ann+450x2@warren.test` is refused twice with 450.
#[derive(Debug, Parser)]
#[command(name = "inbox", version)]
struct Args {
    /// Where to take SMTP with STARTTLS
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:1025")]
    smtp: SocketAddr,
    /// Where to take SMTP over implicit TLS; not at all if absent
    #[arg(long, value_name = "ADDRESS")]
    smtps: Option<SocketAddr>,
    /// Where to serve the web page and the REST API
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8025")]
    http: SocketAddr,
    /// Write the certificate authority that clients must trust to this file (PEM)
    #[arg(long, value_name = "FILE")]
    ca_out: Option<PathBuf>,
    /// Keep only envelope, time and X-Warren-Task of each mail, for benchmarks
    #[arg(long)]
    light: bool,
    /// The only user that may authenticate; anybody may if absent
    #[arg(long, requires = "password")]
    user: Option<String>,
    /// That user's password
    #[arg(
        long,
        requires = "user",
        env = "INBOX_PASSWORD",
        hide_env_values = true
    )]
    password: Option<String>,
    /// Refuse mail without authentication
    #[arg(long)]
    require_auth: bool,
    /// Mails kept in memory
    #[arg(long, value_name = "COUNT")]
    max_messages: Option<usize>,
    /// Memory for mails in bytes
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<usize>,
}

impl Args {
    fn into_options(self) -> InboxOptions {
        let default = InboxOptions::default();
        let auth = match (self.user, self.password) {
            (Some(user), Some(password)) => Auth::Fixed { user, password },
            _ => Auth::Any,
        };
        InboxOptions {
            smtp: self.smtp,
            smtps: self.smtps,
            http: self.http,
            auth,
            require_auth: self.require_auth,
            keep_raw: !self.light,
            max_messages: self.max_messages.unwrap_or(default.max_messages),
            max_bytes: self.max_bytes.unwrap_or(default.max_bytes),
            ..default
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let args = Args::parse();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    let ca_out = args.ca_out.clone();
    let inbox = Inbox::start(args.into_options())?;
    if let Some(path) = ca_out {
        std::fs::write(&path, inbox.ca_pem())
            .with_context(|| format!("writing {}", path.display()))?;
    }
    println!("smtp://{}", inbox.smtp_addr());
    if let Some(address) = inbox.smtps_addr() {
        println!("smtps://{address}");
    }
    println!("{}", inbox.http_url());

    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    inbox.stop().await;
    Ok(())
}
