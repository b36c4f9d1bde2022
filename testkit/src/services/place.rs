//! Where PostgreSQL's data can live, and as whom it runs.
//!
//! It refuses to run as root, so root starts it as the user `postgres`; and where that user can't reach the
//! instance's folder (a checkout below root's home), its data goes to `/var/tmp`, under a name made from the folder's.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// User and group id the server runs as; `None` is whoever we are.
pub(super) type RunAs = Option<(u32, u32)>;

/// The link in the instance's folder to its data, or the data folder itself.
const LINK: &str = "cluster";

/// `postgres` when we are root.
pub(super) fn run_as() -> Result<RunAs> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let ids = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.first() == Some(&"postgres"))
            .then(|| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))?
    });
    match ids {
        Some(ids) => Ok(Some(ids)),
        None => bail!(
            "PostgreSQL does not run as root and there is no user `postgres` to run it as: \
             create one (`useradd --system postgres`) or run this as an ordinary user"
        ),
    }
}

/// A folder that belongs to the server's user and that nobody else can enter.
pub(super) fn private_folder(folder: &Path, run_as: RunAs) -> Result<PathBuf> {
    let link = folder.join(LINK);
    let Some((user, group)) = run_as else {
        return made(&link, rustix::process::geteuid().as_raw(), None);
    };
    if folder.ancestors().all(|part| can_enter(part, user, group)) {
        return made(&link, user, Some((user, group)));
    }
    let digest = Sha256::digest(folder.as_os_str().as_encoded_bytes());
    let name: Vec<String> = digest
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name = name.concat();
    let elsewhere = Path::new("/var/tmp").join(format!("warren-{name}"));
    if fs::read_link(&link).is_err()
        && fs::symlink_metadata(&elsewhere).is_ok_and(|found| found.uid() == user)
    {
        // The folder was deleted and made anew; its data of before has a password that nobody knows any more.
        super::files::remove_folder(&elsewhere)?;
    }
    let elsewhere = made(&elsewhere, user, Some((user, group)))?;
    if fs::read_link(&link).ok().as_deref() != Some(&elsewhere) {
        let _ = fs::remove_file(&link);
        symlink(&elsewhere, &link).with_context(|| format!("cannot link {}", link.display()))?;
    }
    Ok(elsewhere)
}

/// Deletes the data, wherever it is.
pub(super) fn remove_private_folder(folder: &Path) -> Result<()> {
    let link = folder.join(LINK);
    match fs::read_link(&link) {
        Ok(elsewhere) if elsewhere.file_name().is_some_and(is_made_here) => {
            super::files::remove_folder(&elsewhere)
        }
        Ok(_) => Ok(()),
        Err(_) => super::files::remove_folder(&link),
    }
}

fn is_made_here(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"warren-")
}

fn made(path: &Path, owner: u32, chown_to: RunAs) -> Result<PathBuf> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            if let Some((user, group)) = chown_to {
                chown(path, Some(user), Some(group))
                    .with_context(|| format!("cannot chown {}", path.display()))?;
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot create {}", path.display()));
        }
    }
    // In /var/tmp somebody else may have been there first.
    let found =
        fs::symlink_metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    if !found.is_dir() || found.uid() != owner {
        bail!(
            "{} is not a folder of user id {owner}, as it was when it was made: remove it",
            path.display()
        );
    }
    Ok(path.to_owned())
}

fn can_enter(folder: &Path, user: u32, group: u32) -> bool {
    let Ok(found) = fs::metadata(folder) else {
        return false;
    };
    let needed = if found.uid() == user {
        0o100
    } else if found.gid() == group {
        0o010
    } else {
        0o001
    };
    found.mode() & needed != 0
}
