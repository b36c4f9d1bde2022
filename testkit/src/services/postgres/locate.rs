//! Finds PostgreSQL's programs: the version that made the data, else the newest.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The folder with `initdb` and `postgres`.
pub(super) fn bin_folder(data: &Path) -> Result<PathBuf> {
    let mut found = candidates();
    // Newest first; a folder that names no version (one from PATH) last.
    found.sort_by_key(|folder| std::cmp::Reverse(version(folder)));
    let made_by = fs::read_to_string(data.join("PG_VERSION"))
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok());
    let fits = |folder: &PathBuf| {
        made_by.is_none() || version(folder).is_none() || version(folder) == made_by
    };
    if let Some(folder) = found.iter().find(|folder| fits(folder)) {
        return Ok(folder.clone());
    }
    match (made_by, found.is_empty()) {
        (Some(version), false) => bail!(
            "the data in {} was made by PostgreSQL {version}, which is not installed any more: \
             install it or remove the folder",
            data.display()
        ),
        _ => bail!("PostgreSQL is not installed: run deploy/native/install.sh"),
    }
}

fn candidates() -> Vec<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let debian = debian.map(|entry| entry.path().join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = env::split_paths(&path).collect();
    let has_both =
        |folder: &PathBuf| folder.join("initdb").is_file() && folder.join("postgres").is_file();
    debian.chain(on_path).filter(has_both).collect()
}

/// 15 for `/usr/lib/postgresql/15/bin`.
fn version(bin: &Path) -> Option<u32> {
    bin.parent()?
        .file_name()
        .and_then(OsStr::to_str)?
        .parse()
        .ok()
}
