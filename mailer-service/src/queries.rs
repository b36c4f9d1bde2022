//! SQL of the worker, one file per hot statement or table.

pub mod claim;
pub mod control;
pub mod point;
pub mod settle;
pub mod workers;
