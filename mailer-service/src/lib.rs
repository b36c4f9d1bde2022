//! Warren's worker: consumes, claims, runs handlers, settles, retries.

pub mod consumer;
pub mod control;
pub mod dispatcher;
pub mod gate;
pub mod handlers;
pub mod heartbeat;
pub mod http;
pub mod lanes;
pub mod load;
pub mod outbound;
pub mod permit;
pub mod point;
pub mod policy;
pub mod progress;
pub mod queries;
pub mod registry;
pub mod runner;
pub mod service;
pub mod settle;
pub mod setup;
pub mod smtp;
pub mod suppressions;
pub mod task;
pub mod templates;
mod tls;
pub mod wake;
