//! The daemon as a process, with real children and a registry of its own.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed set-up fails the test; a failed test shows the daemon's log"
)]

mod adoption;
mod child;
mod children;
mod embedded;
mod ending;
mod host;
mod methods;
mod registries;
