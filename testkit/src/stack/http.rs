//! The one HTTP client of the stack: loopback only, whatever proxy the machine is set to use.

use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context, Result};

static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
    let builder = crate::http::builder().timeout(Duration::from_secs(10));
    // No connection is kept: one would belong to the runtime (of a test, say) that made it.
    let builder = builder.pool_max_idle_per_host(0);
    builder.build().unwrap_or_default()
});

pub(super) fn client() -> &'static reqwest::Client {
    &CLIENT
}

/// Whether the URL answers 2xx.
pub(super) async fn answers_ok(url: &str) -> bool {
    let answer = client()
        .get(url)
        .timeout(Duration::from_secs(2))
        .send()
        .await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// The JSON that the URL answers, whatever the status.
pub(super) async fn json(url: &str) -> Result<serde_json::Value> {
    let asking = async { client().get(url).send().await?.json().await };
    asking.await.with_context(|| format!("GET {url}"))
}

pub(super) async fn text(url: &str) -> Result<String> {
    let asking = async {
        let answer = client().get(url).send().await?.error_for_status()?;
        answer.text().await
    };
    asking.await.with_context(|| format!("GET {url}"))
}
