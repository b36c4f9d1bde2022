//! Warren's HTTP door: accepts tasks, commits them to PostgreSQL, publishes them to RabbitMQ, and keeps
//! house: relay, scheduler, reaper, reconciler, janitor.

pub mod accepted;
pub mod app;
pub mod archive;
pub mod asyncapi;
pub mod auth;
pub mod budget;
pub mod cli;
pub mod depths;
pub mod doctor;
pub mod endpoints;
pub mod files;
pub mod intake;
mod janitor;
mod marker;
pub mod open_files;
pub mod openapi;
pub mod problem;
pub mod queries;
mod reaper;
mod reconciler;
mod relay;
pub mod replayer;
pub mod report;
mod scheduler;
pub mod service;
mod sight;
pub mod suppressions;
pub mod templates;
pub mod waiters;
pub mod watcher;
pub mod web;
