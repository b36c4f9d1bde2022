//! A private Postfix: an SMTP server that nobody here wrote, for tests of what we say to others.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::credentials::random_word;
use super::process::{Launch, Process};
use super::{files, ports};
use crate::tls;

const SCRIPT: &str = include_str!("postfix/start.sh");
const READY_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// A running Postfix. Dropping it ends it.
#[derive(Debug)]
pub struct Postfix {
    process: Process,
    folder: PathBuf,
    pub port: u16,
    pub user: String,
    pub password: String,
    /// Who has signed its certificate.
    pub ca_file: PathBuf,
}

impl Postfix {
    /// Starts one in a fresh folder; it needs root, or sudo that asks for no password. `name` is of that folder.
    pub async fn start(name: &str) -> Result<Self> {
        if !Path::new("/usr/sbin/postfix").exists() {
            bail!("Postfix is not installed: run deploy/native/install.sh test");
        }
        let folder = std::env::temp_dir().join(format!("{name}-{}", random_word()));
        let folder = files::create_folder(&folder)?;
        let port = ports::free_port()?;
        let password = random_word();
        let pem = tls::Pem::generate()?;
        let ca_file = folder.join("ca.pem");
        files::write(&ca_file, 0o644, &pem.ca)?;
        files::write(&folder.join("certificate.pem"), 0o644, &pem.certificate)?;
        files::write(&folder.join("key.pem"), 0o600, &pem.key)?;
        let is_root = rustix::process::geteuid().is_root();
        let launch = if is_root {
            Launch::new("postfix", "/bin/sh", &folder)
        } else {
            Launch::new("postfix", "sudo", &folder).args(["-n", "/bin/sh"])
        };
        let launch = launch.args([
            "-c",
            SCRIPT,
            "start.sh",
            &folder.display().to_string(),
            &port.to_string(),
            "ann",
            &password,
        ]);
        let launch = Launch {
            drop_grace: STOP_LIMIT,
            ..launch
        };
        let mut postfix = Self {
            process: Process::spawn(launch).await?,
            folder,
            port,
            user: "ann@interop.test".to_owned(),
            password,
            ca_file,
        };
        postfix.wait_until_ready().await?;
        Ok(postfix)
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port))
                .await
                .is_ok()
            {
                return Ok(());
            }
            if !self.process.is_running() || start.elapsed() > READY_LIMIT {
                bail!(
                    "Postfix does not start (it needs root, or sudo without a password):\n{}",
                    self.process.log_tail(20)
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What it has delivered, each mail as it stands in the mailbox.
    pub fn mails(&self) -> Vec<PathBuf> {
        let found = std::fs::read_dir(self.folder.join("mail/inbox/new"));
        let mut mails: Vec<_> = found
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        mails.sort();
        mails
    }

    /// Its log: one line for each thing that it did.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("postfix.log")).unwrap_or_default()
    }

    /// Ends it and deletes its folder.
    pub async fn stop(mut self) -> Result<()> {
        self.process.stop(STOP_LIMIT).await?;
        files::remove_folder(&self.folder).context("removing Postfix's folder")
    }
}
