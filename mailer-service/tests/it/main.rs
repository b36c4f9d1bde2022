//! Integration tests of the worker, with an api-service in front of it: a real RabbitMQ vhost, a real
//! PostgreSQL schema and a real SMTP server for each test. Run them with `make test`.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod attachments;
mod broker;
mod canary;
mod database;
mod dkim;
mod doctor;
mod http_request;
mod interop;
mod life;
mod limits;
mod lines;
mod long;
mod model;
mod operate;
mod outcomes;
mod pace;
mod parked;
mod relays;
mod rescue;
mod restart;
mod retry;
mod smtp;
mod stop;
mod streams;
mod templates;
mod users;
mod verifications;
mod world;
