//! Finds RabbitMQ's and Erlang's programs.
//!
//! The ones wanted are RabbitMQ's own scripts. Debian's `/usr/sbin/rabbitmq-server` is a wrapper that changes the user
//! and drops the environment, and with it every setting of a private instance.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Where the programs are.
pub(super) struct Layout {
    pub(super) server: PathBuf,
    pub(super) epmd: PathBuf,
}

impl Layout {
    pub(super) fn find() -> Result<Self> {
        let Some(scripts) = script_folders()
            .into_iter()
            .find(|folder| is_scripts(folder))
        else {
            bail!(
                "RabbitMQ is not installed: run deploy/native/install.sh \
                 (or set RABBITMQ_HOME to an unpacked one)"
            );
        };
        let Some(epmd) = epmd() else {
            bail!("Erlang's epmd is not on the PATH: run deploy/native/install.sh");
        };
        Ok(Self {
            server: scripts.join("rabbitmq-server"),
            epmd,
        })
    }
}

fn script_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    if let Some(home) = env::var_os("RABBITMQ_HOME") {
        folders.push(PathBuf::from(home).join("sbin"));
    }
    folders.push("/usr/lib/rabbitmq/bin".into());
    folders.extend(versions(Path::new("/usr/lib/rabbitmq/lib")));
    folders.push("/opt/rabbitmq/sbin".into());
    folders.push("/opt/homebrew/opt/rabbitmq/sbin".into());
    folders.push("/usr/local/opt/rabbitmq/sbin".into());
    folders.extend(on_path().into_iter().filter_map(|folder| {
        let real = folder.join("rabbitmq-server").canonicalize().ok()?;
        real.parent().map(Path::to_owned)
    }));
    folders
}

/// `rabbitmq_server-<version>/sbin` below a folder, the last name first.
fn versions(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("sbin"))
        .collect();
    found.sort();
    found.reverse();
    found
}

/// RabbitMQ's own scripts always have `rabbitmq-env` beside them; wrappers have not.
fn is_scripts(folder: &Path) -> bool {
    folder.join("rabbitmq-server").is_file() && folder.join("rabbitmq-env").exists()
}

fn epmd() -> Option<PathBuf> {
    let beside_erl = on_path().into_iter().filter_map(|folder| {
        let erl = folder.join("erl").canonicalize().ok()?;
        erl.parent().map(|folder| folder.join("epmd"))
    });
    let direct = on_path().into_iter().map(|folder| folder.join("epmd"));
    direct
        .chain(beside_erl)
        .chain(["/usr/lib/erlang/bin/epmd".into()])
        .find(|program| program.is_file())
}

fn on_path() -> Vec<PathBuf> {
    env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect()
}
