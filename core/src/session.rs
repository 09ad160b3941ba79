//! One executor of statements behind console, shell and commands.

pub mod plan;
