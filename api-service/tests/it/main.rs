//! The API as its callers meet it, on the real PostgreSQL and RabbitMQ. Run it with `make test`, or alone:
//! `cargo run -p testkit --bin stack -- exec -- cargo test -p api-service`.

#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod audit;
mod auth;
mod batch;
mod doctor;
mod emails;
mod events;
mod idempotency;
mod key_limits;
mod list;
mod operate;
mod operation;
mod problems;
mod replays;
mod retention;
mod support;
mod suppressions;
mod tasks;
mod templates;
mod why;
