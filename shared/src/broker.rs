//! Connections to RabbitMQ. Nothing here recovers by itself: lapin's own recovery leaves confirms and
//! consumers hanging, so whoever holds a connection drops it at the first sign of trouble and makes another.

use crate::{config::Broker, topology::Topology};
use futures_util::StreamExt;
use lapin::{
    Connection, ConnectionProperties, ErrorKind, Event,
    protocol::{AMQPErrorKind, AMQPSoftError},
    uri::AMQPUri,
};
use rand::RngExt;
use secrecy::ExposeSecret;
use std::{str::FromStr, time::Duration};
use tokio::sync::watch;

#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("broker.url is not a valid AMQP address: {0}")]
    Url(String),
    #[error("the broker did not answer in time")]
    Timeout,
    #[error("the connection to the broker failed")]
    Amqp(#[from] lapin::Error),
    #[error("the broker ended a consumer or a connection: {0}")]
    Ended(&'static str),
    #[error("a message found no queue; declaring the topology again")]
    Unroutable,
}

/// The largest frame asked for, in bytes. The AMQP library allocates 64 of them for each connection, and an envelope
/// fits into one many times; at RabbitMQ's 128 KiB they would be most of a service's memory.
const LARGEST_FRAME: u32 = 32 * 1024;

/// What a process knows of its connection, for health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    Down,
    Up,
    /// Connected, but the broker takes nothing: it is short of memory or disk.
    Blocked,
}

/// Connects and declares the topology.
pub async fn connect(config: &Broker, name: &str) -> Result<Connection, BrokerError> {
    let declaring = async {
        let connection = open(config, name).await?;
        let channel = connection.create_channel().await?;
        Topology::warren().declare(&channel).await?;
        channel.close(200, "topology declared".into()).await?;
        Ok::<_, BrokerError>(connection)
    };
    // Declaring quorum queues for the first time takes a few seconds on a small machine.
    let limit = Duration::from_secs(config.connect_timeout_s) + Duration::from_secs(25);
    tokio::time::timeout(limit, declaring)
        .await
        .map_err(|_| BrokerError::Timeout)?
}

/// Connects, and changes nothing.
pub async fn open(config: &Broker, name: &str) -> Result<Connection, BrokerError> {
    let mut uri = AMQPUri::from_str(config.url.expose_secret()).map_err(BrokerError::Url)?;
    uri.query.heartbeat = Some(config.heartbeat_s);
    uri.query.frame_max.get_or_insert(LARGEST_FRAME);
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connecting = Connection::connect_uri(uri, properties);
    // A broker that is just starting takes its time over the handshake.
    let limit = Duration::from_secs(config.connect_timeout_s) + Duration::from_secs(25);
    Ok(tokio::time::timeout(limit, connecting)
        .await
        .map_err(|_| BrokerError::Timeout)??)
}

/// What was asked for is not there.
pub fn is_not_found(error: &lapin::Error) -> bool {
    is_soft(error, &AMQPSoftError::NOTFOUND)
}

/// What was declared is there, with other arguments.
pub fn is_different(error: &lapin::Error) -> bool {
    is_soft(error, &AMQPSoftError::PRECONDITIONFAILED)
}

fn is_soft(error: &lapin::Error, soft: &AMQPSoftError) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if matches!(error.kind(), AMQPErrorKind::Soft(kind) if kind == soft))
}

/// Ends with the reason when the connection is lost; follows blocked and unblocked on the way.
pub async fn watch(connection: &Connection, state: &watch::Sender<LinkState>) -> BrokerError {
    let mut events = std::pin::pin!(connection.events_listener());
    loop {
        match events.next().await {
            Some(Event::ConnectionBlocked(reason)) => {
                tracing::error!(broker.reason = %reason, "the broker takes no messages");
                state.send_replace(LinkState::Blocked);
            }
            Some(Event::ConnectionUnblocked) => {
                tracing::info!("the broker takes messages again");
                state.send_replace(LinkState::Up);
            }
            Some(Event::Error(error)) => return error.into(),
            Some(_) => {}
            None => return BrokerError::Ended("no more events"),
        }
    }
}

/// Says goodbye. A blocked broker does not listen, so this takes a moment at the most.
pub async fn close(connection: &Connection) {
    let closing = connection.close(200, "stopping".into());
    match tokio::time::timeout(Duration::from_secs(2), closing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a connection did not close in order"
        ),
        Err(_) => tracing::debug!("the broker did not answer the end of a connection"),
    }
}

/// Growing pauses between attempts to connect, with jitter: 0.1 s up to 2 s.
#[derive(Debug)]
pub struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(Duration::from_millis(100))
    }
}

impl Pauses {
    pub fn longer(&mut self) -> Duration {
        let pause = self.0.mul_f64(rand::rng().random_range(0.5..1.0));
        self.0 = (self.0 * 2).min(Duration::from_secs(2));
        pause
    }
}
