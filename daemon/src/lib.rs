//! The daemon of one host: deploys, supervises, measures and heals the services on it.
//!
//! Invariants: `supervise` is pure; `process` alone touches processes; children outlive the daemon.

pub mod deploy_file;
pub mod process;
pub mod program;
pub mod spec;
pub mod state_folder;
pub mod store;
pub mod supervise;
