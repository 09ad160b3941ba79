//! The daemon of one host: deploys, supervises, measures and heals the services on it.
//!
//! [`run`] is `skydaemon`, and `sky daemon`. Invariants: [`supervise`] is pure; [`process`] alone
//! touches processes; [`supervisor`] alone owns the children; children outlive the daemon; when the
//! registry is away, they are supervised as ever.

pub mod admin;
pub mod config;
pub mod daemon;
pub mod deploy_file;
pub mod figures;
pub mod liveness;
pub mod logging;
pub mod measure;
pub mod methods;
pub mod process;
pub mod program;
pub mod spec;
pub mod state_folder;
pub mod status;
pub mod store;
pub mod supervise;
pub mod supervisor;

pub use config::{AccessArgs, DaemonArgs, DaemonConfig, HostArgs, RegistryArgs};
pub use daemon::{DaemonError, run, run_until};
