//! Finds the programs that were built with this one.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

#[derive(Debug)]
pub(super) struct Programs {
    pub(super) api: PathBuf,
    pub(super) mailer: PathBuf,
    pub(super) inbox: PathBuf,
}

impl Programs {
    pub(super) fn find(folder: Option<&Path>) -> Result<Self> {
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None => beside_this_program()?,
        };
        let program = |name: &str| {
            let path = folder.join(name);
            if !path.is_file() {
                let release = if folder.ends_with("release") {
                    "--release "
                } else {
                    ""
                };
                bail!(
                    "there is no {name} in {}: build it first \
                     (cargo build {release}-p api-service -p mailer-service -p testkit)",
                    folder.display()
                );
            }
            Ok(path)
        };
        Ok(Self {
            api: program("api-service")?,
            mailer: program("mailer-service")?,
            inbox: program("inbox")?,
        })
    }
}

/// A test's program lies one folder deeper.
fn beside_this_program() -> Result<PathBuf> {
    let program = env::current_exe().context("this program does not know where it lies")?;
    let folder = program.parent().context("this program lies nowhere")?;
    let folder = if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    Ok(folder.to_owned())
}
