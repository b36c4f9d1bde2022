//! SQL of the worker, one file per hot statement or table.

pub mod buckets;
pub mod claim;
pub mod control;
pub mod gate;
pub mod output;
pub mod pace;
pub mod point;
pub mod policy;
pub mod rates;
pub mod settle;
pub mod templates;
pub mod wake;
pub mod workers;
