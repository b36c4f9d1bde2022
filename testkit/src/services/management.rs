//! RabbitMQ's management HTTP API, as far as tests and fault runs need it.
//!
//! Its counts are samples: as old as the broker's statistics interval. Where a test must know at once, it asks over
//! AMQP ([`crate::harness::TestEnv::queue_depth`]).

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Client, Method, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The connection name under which this crate looks into queues; [`Management::close_connections`] spares it.
pub(crate) const OBSERVER: &str = "testkit";

/// A queue as the broker last sampled it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct QueueInfo {
    pub name: String,
    #[serde(default)]
    pub vhost: String,
    #[serde(default)]
    pub messages: u64,
    #[serde(default)]
    pub messages_ready: u64,
    #[serde(default)]
    pub messages_unacknowledged: u64,
    #[serde(default)]
    pub consumers: u64,
    #[serde(default)]
    pub arguments: Value,
}

/// All queues of a vhost together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueTotals {
    pub messages: u64,
    pub ready: u64,
    pub unacknowledged: u64,
}

/// A message that was looked at and put back.
#[derive(Debug, Clone, Deserialize)]
pub struct QueueMessage {
    pub exchange: String,
    pub routing_key: String,
    pub redelivered: bool,
    /// AMQP properties, `headers` among them.
    pub properties: Value,
    pub payload: String,
}

#[derive(Debug, Deserialize)]
struct ConnectionInfo {
    name: String,
    #[serde(default)]
    user_provided_name: Option<String>,
}

/// A client of one broker's management API.
#[derive(Debug, Clone)]
pub struct Management {
    base: Url,
    client: Client,
}

impl Management {
    /// `url` carries the credentials: `http://user:password@host:15672`.
    pub fn new(url: &str) -> Result<Self> {
        let base = Url::parse(url).with_context(|| format!("not a management URL: {url}"))?;
        let client = crate::http::builder()
            .timeout(Duration::from_secs(20))
            .build()?;
        Ok(Self { base, client })
    }

    pub fn user(&self) -> &str {
        self.base.username()
    }

    /// Whether the API answers this user.
    pub async fn is_up(&self) -> bool {
        self.get::<Value>(&["whoami"]).await.is_ok()
    }

    pub async fn overview(&self) -> Result<Value> {
        self.get(&["overview"]).await
    }

    pub async fn vhosts(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Vhost {
            name: String,
        }
        Ok(self
            .get::<Vec<Vhost>>(&["vhosts"])
            .await?
            .into_iter()
            .map(|vhost| vhost.name)
            .collect())
    }

    /// Creates the vhost and lets this user do everything in it.
    pub async fn create_vhost(&self, name: &str) -> Result<()> {
        self.send(Method::PUT, &["vhosts", name], Some(json!({})))
            .await?;
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        self.send(Method::PUT, &["permissions", name, self.user()], Some(all))
            .await?;
        Ok(())
    }

    /// Deletes the vhost with everything in it; a vhost that is absent is as good.
    pub async fn delete_vhost(&self, name: &str) -> Result<()> {
        self.send(Method::DELETE, &["vhosts", name], None)
            .await
            .map(|_| ())
    }

    pub async fn queues(&self, vhost: &str) -> Result<Vec<QueueInfo>> {
        self.get(&["queues", vhost]).await
    }

    pub async fn queue_totals(&self, vhost: &str) -> Result<QueueTotals> {
        let queues = self.queues(vhost).await?;
        Ok(queues
            .iter()
            .fold(QueueTotals::default(), |sum, queue| QueueTotals {
                messages: sum.messages + queue.messages,
                ready: sum.ready + queue.messages_ready,
                unacknowledged: sum.unacknowledged + queue.messages_unacknowledged,
            }))
    }

    pub async fn purge(&self, vhost: &str, queue: &str) -> Result<()> {
        self.send(Method::DELETE, &["queues", vhost, queue, "contents"], None)
            .await
            .map(|_| ())
    }

    pub async fn delete_queue(&self, vhost: &str, queue: &str) -> Result<()> {
        self.send(Method::DELETE, &["queues", vhost, queue], None)
            .await
            .map(|_| ())
    }

    /// Makes a queue and binds it to an exchange.
    pub async fn bind_queue(
        &self,
        vhost: &str,
        queue: &str,
        exchange: &str,
        routing_key: &str,
    ) -> Result<()> {
        let durable = json!({"durable": true});
        self.send(Method::PUT, &["queues", vhost, queue], Some(durable))
            .await?;
        let path = ["bindings", vhost, "e", exchange, "q", queue];
        let binding = json!({"routing_key": routing_key});
        self.send(Method::POST, &path, Some(binding)).await?;
        Ok(())
    }

    /// Looks at up to `most` messages from the head of the queue and puts them back.
    pub async fn get_messages(
        &self,
        vhost: &str,
        queue: &str,
        most: usize,
    ) -> Result<Vec<QueueMessage>> {
        let body = json!({"count": most, "ackmode": "ack_requeue_true", "encoding": "auto"});
        let answer = self
            .send(Method::POST, &["queues", vhost, queue, "get"], Some(body))
            .await?;
        serde_json::from_slice(&answer).context("RabbitMQ's answer to a get")
    }

    /// Publishes one message; true when it was routed to a queue.
    pub async fn publish(
        &self,
        vhost: &str,
        exchange: &str,
        routing_key: &str,
        properties: Value,
        payload: &str,
    ) -> Result<bool> {
        // The API knows the default exchange by this name.
        let exchange = if exchange.is_empty() {
            "amq.default"
        } else {
            exchange
        };
        let body = json!({
            "properties": properties, "routing_key": routing_key, "payload": payload, "payload_encoding": "string",
        });
        let path = ["exchanges", vhost, exchange, "publish"];
        let answer = self.send(Method::POST, &path, Some(body)).await?;
        let answer: Value =
            serde_json::from_slice(&answer).context("RabbitMQ's answer to a publish")?;
        Ok(answer["routed"] == true)
    }

    /// Closes every client connection the broker has listed, of one vhost or of all; returns how many.
    pub async fn close_connections(&self, vhost: Option<&str>) -> Result<usize> {
        let connections: Vec<ConnectionInfo> = match vhost {
            Some(vhost) => self.get(&["vhosts", vhost, "connections"]).await?,
            None => self.get(&["connections"]).await?,
        };
        let mut closed = 0;
        for connection in connections {
            if connection.user_provided_name.as_deref() != Some(OBSERVER) {
                self.send(Method::DELETE, &["connections", &connection.name], None)
                    .await?;
                closed += 1;
            }
        }
        Ok(closed)
    }

    /// GET of any path below `/api`, each segment as it is (it is percent-encoded here).
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T> {
        let answer = self.send(Method::GET, path, None).await?;
        serde_json::from_slice(&answer)
            .with_context(|| format!("RabbitMQ's answer to GET {}", path.join("/")))
    }

    async fn send(&self, method: Method, path: &[&str], body: Option<Value>) -> Result<Vec<u8>> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().push("api").extend(path);
        }
        let shown = format!("{method} {}", url.path());
        let is_delete = method == Method::DELETE;
        let mut request = self.client.request(method, url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request
            .send()
            .await
            .with_context(|| format!("RabbitMQ's management API: {shown}"))?;
        let status = answer.status();
        let text = answer.bytes().await?.to_vec();
        if status.is_success() || (is_delete && status == StatusCode::NOT_FOUND) {
            return Ok(text);
        }
        bail!(
            "RabbitMQ's management API: {shown} answered {status}: {}",
            String::from_utf8_lossy(&text)
        )
    }
}
