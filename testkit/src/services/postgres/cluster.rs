//! The data folder: how it is made, and the settings the server runs with.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::services::process::Launch;
use crate::services::{Credentials, files};

const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    // No socket in a folder that others share.
    ("unix_socket_directories", ""),
    ("max_connections", "200"),
    ("shared_buffers", "128MB"),
    ("effective_cache_size", "512MB"),
    ("max_wal_size", "1GB"),
    ("random_page_cost", "1.1"),
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("synchronous_commit", "on"),
    ("jit", "off"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("logging_collector", "off"),
    ("log_line_prefix", "%m [%p] "),
    ("log_checkpoints", "off"),
];

/// Makes the cluster unless it is there. Made beside its place and then renamed, so half a cluster is never used.
pub(super) async fn create(
    home: &Path,
    bin: &Path,
    credentials: &Credentials,
    launch: &Launch,
) -> Result<()> {
    if home.join("data").join("PG_VERSION").is_file() {
        return Ok(());
    }
    let fresh = home.join("data.new");
    files::remove_folder(&fresh)?;
    let password = home.join("password");
    files::write(&password, 0o600, &credentials.password)?;
    if let Some((user, group)) = launch.user {
        chown(&password, Some(user), Some(group))
            .context("cannot give PostgreSQL its password file")?;
    }

    let mut initdb = launch.clone();
    initdb.program = bin.join("initdb");
    initdb.args = vec![
        "--pgdata".into(),
        fresh.clone().into(),
        "--pwfile".into(),
        password.clone().into(),
    ];
    let user = format!("--username={}", credentials.user);
    // What is flushed here is flushed again by the server's own checkpoints.
    let rest = [
        user.as_str(),
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
    ];
    initdb.args.extend(rest.iter().map(OsString::from));
    let mut command = tokio::process::Command::from(initdb.command());
    command.kill_on_drop(true);
    let output = command
        .output()
        .await
        .with_context(|| format!("cannot run {}", initdb.program.display()))?;
    let _ = fs::remove_file(&password);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "PostgreSQL's initdb failed on {}:\n{}",
            fresh.display(),
            said.trim()
        );
    }
    fs::rename(&fresh, home.join("data"))
        .context("cannot move the new PostgreSQL cluster to its place")
}

/// The server's command line.
pub(super) fn arguments(data: &Path, port: u16, extra: &[(String, String)]) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec![
        "-D".into(),
        data.into(),
        "-p".into(),
        port.to_string().into(),
    ];
    let usual = SETTINGS.iter().map(|(key, value)| format!("{key}={value}"));
    // A later setting wins.
    for setting in usual.chain(extra.iter().map(|(key, value)| format!("{key}={value}"))) {
        args.push("-c".into());
        args.push(setting.into());
    }
    args
}
