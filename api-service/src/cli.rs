//! The program's subcommands.

pub mod key;

pub use key::KeyCommand;
