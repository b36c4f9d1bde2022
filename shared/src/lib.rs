//! What both services agree on: the kinds of task and their payloads, the message envelope, the broker
//! topology and how it is spoken to, the database schema, configuration and telemetry.

pub mod address;
pub mod attachment;
pub mod backoff;
pub mod broker;
pub mod category;
pub mod clock;
pub mod config;
pub mod db;
pub mod envelope;
pub mod event;
pub mod fields;
pub mod files;
pub mod gate;
pub mod kinds;
pub mod limits;
pub mod outbound;
pub mod outbox;
pub mod pepper;
pub mod publisher;
pub mod return_path;
pub mod schema;
pub mod signals;
pub mod statement;
pub mod suppression;
pub mod task;
pub mod telemetry;
pub mod template;
pub mod threads;
pub mod topology;
pub mod unsubscribe;
pub mod verification;
