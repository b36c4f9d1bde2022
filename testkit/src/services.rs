//! Private instances of the two servers Warren stands on.
//!
//! Each has its own folder, ports, credentials and log, so any number run beside each other and beside those of the
//! distribution. What must stay true: a program started here ends with its owner, or, where the owner was killed,
//! at the next start on the same folder.

pub mod management;
pub mod ports;
pub mod postfix;
pub mod postgres;
pub mod process;
pub mod procfs;
pub mod rabbitmq;

pub(crate) mod credentials;
pub(crate) mod files;
mod place;

pub use credentials::Credentials;
pub use management::{Management, QueueInfo, QueueMessage, QueueTotals};
pub use postfix::Postfix;
pub use postgres::{Postgres, PostgresOptions};
pub use process::{Launch, Process};
pub use rabbitmq::{RabbitMq, RabbitMqOptions};
