//! Looks into queues over AMQP, whose answer to a passive declaration is exact and immediate.

use anyhow::{Context, Result};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::sync::Mutex;

use crate::services::management::OBSERVER;

/// The properties of this crate's own connections, by which they are told from the tested program's.
pub(crate) fn observer() -> ConnectionProperties {
    ConnectionProperties::default().with_connection_name(OBSERVER.into())
}

/// A connection that is made at the first look and again whenever it has broken.
#[derive(Debug)]
pub(super) struct Observer {
    url: String,
    connection: Mutex<Option<Connection>>,
}

impl Observer {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            connection: Mutex::default(),
        }
    }

    /// Messages ready; 0 where the queue is absent.
    pub(super) async fn depth(&self, queue: &str) -> Result<u64> {
        let channel = self.channel().await?;
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        match channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
        {
            Ok(declared) => {
                let depth = u64::from(declared.message_count());
                let _ = channel.close(200, "looked".into()).await;
                Ok(depth)
            }
            Err(error) if is_not_found(&error) => Ok(0),
            Err(error) => Err(error).with_context(|| format!("cannot look into the queue {queue}")),
        }
    }

    pub(super) async fn close(&self) {
        if let Some(connection) = self.connection.lock().await.take() {
            let _ = connection.close(200, "finished".into()).await;
        }
    }

    /// A channel for one look: the broker closes it when the queue is absent.
    async fn channel(&self) -> Result<Channel> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = &*kept
            && let Ok(channel) = connection.create_channel().await
        {
            return Ok(channel);
        }
        let connection = Connection::connect(&self.url, observer()).await;
        let connection =
            connection.context("no RabbitMQ at TEST_AMQP_URL; run the tests by `make test`")?;
        let channel = connection.create_channel().await?;
        *kept = Some(connection);
        Ok(channel)
    }
}

fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(amqp) if amqp.get_id() == 404)
}
