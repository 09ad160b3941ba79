//! Serving typed methods, registering, draining.
//!
//! [`Service::builder`] says what a service is; [`Builder::start`] serves it and registers it;
//! [`Service::until_stopped`] waits for its end. The wire is [`crate::rpc`]'s, the registry
//! [`crate::registry`]'s.

mod admin;
mod bind;
mod builder;
mod config;
mod context;
mod error;
mod figures;
mod lifecycle;
mod method;
mod signals;
mod telling;
mod trust;

pub use builder::Builder;
pub use config::{ConfigError, Listen, PORTS, SUPERVISED_VARIABLE, ServiceConfig};
pub use context::{Context, ServiceError, ServiceInfo};
pub use error::StartError;
pub use lifecycle::{Service, Stopper};
pub use method::{Completed, MethodOptions, OnHangUp};
pub use trust::{Network, NetworkError};
