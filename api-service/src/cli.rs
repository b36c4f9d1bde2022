//! The program's subcommands.

pub mod doctor;
pub mod key;

pub use doctor::DoctorCommand;
pub use key::KeyCommand;
