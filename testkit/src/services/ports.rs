//! Free TCP ports on the loopback address.
//!
//! They are taken below the kernel's ephemeral range: RabbitMQ needs ten seconds and more until it listens, time
//! enough for an outgoing connection to be given the very port that was just found free.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Result, bail};

use super::files;

const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;
/// How far above a preferred port to look for the next free one.
const NEIGHBOURS: u16 = 50;

static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// Whether a server could listen on the port now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A port that is free and that this process has not handed out before.
pub fn free_port() -> Result<u16> {
    let [low, high, ..] = *uuid::Uuid::new_v4().as_bytes();
    let start = u16::from_le_bytes([low, high]) % COUNT;
    take((0..COUNT).map(|step| FIRST + (start + step) % COUNT))
}

/// The preferred port or the next free one above it; any free one where there is no preference.
pub fn free_port_near(preferred: Option<u16>) -> Result<u16> {
    match preferred {
        Some(port) => take(port..=port.saturating_add(NEIGHBOURS)).or_else(|_| free_port()),
        None => free_port(),
    }
}

/// The ports of a folder by name: chosen at the first start and kept for as long as they are free.
#[derive(Debug)]
pub struct KeptPorts {
    path: PathBuf,
    kept: BTreeMap<String, u16>,
    chosen: BTreeMap<String, u16>,
}

impl KeptPorts {
    pub fn of_folder(folder: &Path) -> Self {
        let path = folder.join("ports.json");
        let kept = fs::read_to_string(&path)
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok());
        Self {
            path,
            kept: kept.unwrap_or_default(),
            chosen: BTreeMap::new(),
        }
    }

    /// The port of that name: the one used before if it is free still, otherwise as [`free_port_near`].
    pub fn take(&mut self, name: &str, preferred: Option<u16>) -> Result<u16> {
        let port = match self.kept.get(name) {
            Some(&port) if is_free(port) => {
                given().insert(port);
                port
            }
            _ => free_port_near(preferred)?,
        };
        self.chosen.insert(name.to_owned(), port);
        files::write(
            &self.path,
            0o644,
            &serde_json::to_string_pretty(&self.chosen)?,
        )?;
        Ok(port)
    }

    /// Gives all of them back, once their servers are gone for good.
    pub fn release(&self) {
        given().retain(|port| !self.chosen.values().any(|chosen| chosen == port));
    }
}

fn take(candidates: impl Iterator<Item = u16>) -> Result<u16> {
    let mut given = given();
    for port in candidates {
        if !given.contains(&port) && is_free(port) {
            given.insert(port);
            return Ok(port);
        }
    }
    bail!(
        "no free TCP port on 127.0.0.1: end some of the programs that listen there (`ss -ltnp` lists them)"
    )
}

fn given() -> std::sync::MutexGuard<'static, HashSet<u16>> {
    GIVEN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_the_same_twice_and_never_a_taken_one() {
        let first = free_port().unwrap();
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        assert!(!is_free(first));
        assert_ne!(free_port_near(Some(first)).unwrap(), first);
    }

    #[test]
    fn a_folder_keeps_its_ports() {
        let folder = std::env::temp_dir().join(format!("warren-test-{}", free_port().unwrap()));
        files::create_folder(&folder).unwrap();
        let port = KeptPorts::of_folder(&folder).take("web", None).unwrap();
        assert_eq!(
            KeptPorts::of_folder(&folder).take("web", None).unwrap(),
            port
        );
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert_ne!(
            KeptPorts::of_folder(&folder).take("web", None).unwrap(),
            port
        );
        drop(taken);
        files::remove_folder(&folder).unwrap();
    }
}
