//! What `sky` is made of: the full-screen console, the shell and the commands.

pub mod cli;
pub mod demo;
mod link;
pub mod mode;
pub mod oneshot;
pub mod output;
pub mod report;
pub mod shell;
pub mod theme;
pub mod traffic;
pub mod tui;
