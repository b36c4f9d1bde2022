//! The user and password of an instance: random, made once for a data folder and kept in it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::files;

/// User and password. Both are letters and digits only, so they stand in a URL as they are.
#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials {
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Those of the folder, made at the first call. The file has mode 600.
    pub(crate) fn of_folder(folder: &Path, user: &str) -> Result<Self> {
        let path = folder.join("credentials.json");
        if let Ok(text) = fs::read_to_string(&path) {
            return serde_json::from_str(&text)
                .with_context(|| format!("{} is damaged: remove its folder", path.display()));
        }
        let made = Self {
            user: user.to_owned(),
            password: random_word(),
        };
        files::write(&path, 0o600, &serde_json::to_string(&made)?)?;
        Ok(made)
    }
}

/// 122 random bits as 32 hexadecimal digits.
pub(crate) fn random_word() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
