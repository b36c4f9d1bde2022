//! Development only: everything that Warren's tests, fault runs and `make run` need around the two services.
//!
//! Nothing here is linked into a service, and this crate knows nothing of theirs: it starts real programs
//! (PostgreSQL, RabbitMQ, the services' own binaries) in private folders on free ports, and it ends every one of
//! them again, whichever way the run ends. Failures are `anyhow` errors that name the remedy, since their reader is
//! a developer at a terminal.

pub mod endpoint;
pub mod harness;
pub mod http;
pub mod inbox;
pub mod proxy;
pub mod services;
pub mod stack;
mod tls;
