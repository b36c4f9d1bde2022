//! SQL, one file per table or hot statement. Functions take a connection, never the pool.

pub mod accept;
pub mod api_keys;
pub mod audit;
pub mod budgets;
pub mod dead_letters;
pub mod doctor;
pub mod emails;
pub mod epoch;
pub mod export;
pub mod idempotency;
pub mod load;
pub mod operate;
pub mod outbox;
pub mod policy;
pub mod replays;
pub mod rescue;
pub mod retention;
pub mod suppressions;
pub mod tasks;
pub mod templates;
pub mod timeline;
pub mod verifications;
pub mod watch;
pub mod why;
pub mod workers;
