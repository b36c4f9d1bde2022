//! One mail through the public API into the inbox: the proof that all parts work together.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::services::credentials;
use crate::stack::{Stack, http};

const LIMIT: Duration = Duration::from_secs(15);

/// Sends it, waits until the inbox has it, and says so in a line or two.
pub(super) async fn send(stack: &Stack, key: &str) -> Result<String> {
    let word = credentials::random_word();
    let subject = format!("Hello from Warren ({})", &word[..8]);
    let body = json!({
        "to": "ada@example.com",
        "subject": subject,
        "text": "This mail went through the API, PostgreSQL, RabbitMQ, the mailer and SMTP.\n",
    });
    let start = Instant::now();
    let url = format!("{}/api/v1/emails", stack.api_url());
    let answer = http::client()
        .post(url)
        .bearer_auth(key)
        .json(&body)
        .send()
        .await?;
    let accepted = start.elapsed();
    let status = answer.status();
    let text = answer.text().await?;
    if status.as_u16() != 202 {
        bail!("POST /api/v1/emails answered {status}: {text}");
    }
    let answer: Value = serde_json::from_str(&text).context("the answer to POST /api/v1/emails")?;
    let id = answer["id"]
        .as_str()
        .context("the answer to POST /api/v1/emails has no id")?;
    while !has_arrived(stack, &subject).await? {
        if start.elapsed() > LIMIT {
            bail!("accepted as {id}, but the inbox has no mail \"{subject}\" after {LIMIT:?}");
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(format!(
        "A mail to ada@example.com was accepted in {:.1} ms ({id})\n\
         and was in the inbox {:.1} ms after the request began: \"{subject}\"",
        milliseconds(accepted),
        milliseconds(start.elapsed())
    ))
}

async fn has_arrived(stack: &Stack, subject: &str) -> Result<bool> {
    let url = format!("{}/api/v1/messages?limit=20", stack.inbox_url());
    let list: Value = http::client()
        .get(url)
        .send()
        .await?
        .json()
        .await
        .context("the inbox's list of messages")?;
    let messages = list["messages"]
        .as_array()
        .context("the inbox's list has no messages")?;
    Ok(messages.iter().any(|message| message["Subject"] == subject))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
