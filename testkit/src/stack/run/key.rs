//! The API key of a run: made once for its folder and used again for as long as the API takes it.

use std::fs;

use anyhow::Result;

use crate::services::files;
use crate::stack::{Stack, http};

pub(super) async fn of_folder(stack: &Stack) -> Result<String> {
    let path = stack.folder().join("api-key");
    if let Ok(kept) = fs::read_to_string(&path) {
        let kept = kept.trim();
        if is_accepted(stack, kept).await {
            return Ok(kept.to_owned());
        }
    }
    let key = stack.create_api_key("make-run").await?;
    files::write(&path, 0o600, &format!("{key}\n"))?;
    Ok(key)
}

async fn is_accepted(stack: &Stack, key: &str) -> bool {
    let url = format!("{}/api/v1/tasks?limit=1", stack.api_url());
    let answer = http::client().get(url).bearer_auth(key).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}
