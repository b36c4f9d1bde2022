//! The mail server of the stack, asked over its REST API: how many mails, whose, when.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// A client of the inbox.
#[derive(Debug, Clone)]
pub struct Sink {
    url: String,
    client: Client,
}

/// How often a task's mail arrived.
#[derive(Debug, Clone, Copy)]
pub struct Arrivals {
    pub count: u64,
    pub first: DateTime<Utc>,
}

#[derive(Deserialize)]
struct Tally {
    deliveries: Vec<Delivery>,
    without: u64,
    dropped: u64,
}

#[derive(Deserialize)]
struct Delivery {
    value: Uuid,
    count: u64,
    first: DateTime<Utc>,
}

impl Sink {
    pub fn new(url: &str) -> Result<Self> {
        Ok(Self {
            url: url.to_owned(),
            client: testkit::http::client(),
        })
    }

    /// Mails accepted since the sink was emptied.
    pub async fn count(&self) -> Result<u64> {
        self.info("/Messages").await
    }

    /// Mails accepted since the sink was started.
    pub async fn accepted(&self) -> Result<u64> {
        self.info("/RuntimeStats/SMTPAccepted").await
    }

    async fn info(&self, pointer: &str) -> Result<u64> {
        let answer = self.client.get(format!("{}/api/v1/info", self.url));
        let info: Value = answer.send().await?.error_for_status()?.json().await?;
        info.pointer(pointer)
            .and_then(Value::as_u64)
            .with_context(|| format!("the inbox does not tell {pointer}"))
    }

    /// Every task's mails, by X-Warren-Task.
    pub async fn deliveries(&self) -> Result<HashMap<Uuid, Arrivals>> {
        let answer = self.client.get(format!("{}/api/v1/deliveries", self.url));
        let tally: Tally = answer.send().await?.error_for_status()?.json().await?;
        anyhow::ensure!(
            tally.without == 0 && tally.dropped == 0,
            "the sink has {} mails without a task and dropped {}",
            tally.without,
            tally.dropped
        );
        let one = |Delivery {
                       value,
                       count,
                       first,
                   }| (value, Arrivals { count, first });
        Ok(tally.deliveries.into_iter().map(one).collect())
    }

    /// Makes the sink keep each mail and answer so much later, which holds a connection that long.
    pub async fn slow(&self, delay: Duration) -> Result<()> {
        self.set_rules(&json!([slow(delay)?])).await
    }

    /// Slow, and besides refuses the next so many mails for now, so that each is tried again within seconds.
    pub async fn slow_and_busy(&self, delay: Duration, mails: u64) -> Result<()> {
        let later = json!({"reply": {"code": 450, "text": "4.2.1 Mailbox busy"}});
        let busy = json!({"match": "*", "phase": "rcpt", "action": later, "times": mails});
        self.set_rules(&json!([slow(delay)?, busy])).await
    }

    /// Slow, and besides gives the next so many mails neither a place nor an answer.
    pub async fn slow_and_mute(&self, delay: Duration, mails: u64) -> Result<()> {
        let mute = json!({"match": "*", "phase": "dot", "action": "hang", "times": mails});
        self.set_rules(&json!([slow(delay)?, mute])).await
    }

    async fn set_rules(&self, rules: &Value) -> Result<()> {
        let request = self.client.put(format!("{}/api/v1/faults", self.url));
        request.json(rules).send().await?.error_for_status()?;
        Ok(())
    }

    /// Forgets all mails and fault rules.
    pub async fn empty(&self) -> Result<()> {
        for path in ["messages", "faults"] {
            let request = self.client.delete(format!("{}/api/v1/{path}", self.url));
            request.send().await?.error_for_status()?;
        }
        Ok(())
    }
}

fn slow(delay: Duration) -> Result<Value> {
    let delay = json!({"delay": {"ms": u64::try_from(delay.as_millis())?}});
    Ok(json!({"match": "*", "phase": "dot", "action": delay}))
}
