//! Distributed services that find each other through a central registry and speak BSON RPC.
//!
//! The library that services, clients, daemons and the console share. It knows no terminal.

pub mod backoff;
pub mod client;
pub mod daemon_api;
#[cfg(feature = "demo")]
pub mod demo;
pub mod hint;
pub mod instance;
pub mod metrics;
pub mod process;
pub mod query;
pub mod registry;
pub mod rpc;
pub mod service;
pub mod session;
pub mod stats;
#[cfg(feature = "testing")]
pub mod testing;

/// The code in the pages of `docs/` is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/listening.md")]
mod listening {}
