//! Distributed services that find each other through a central registry and speak BSON RPC.
//!
//! The library that services, clients, daemons and the console share. It knows no terminal.
//!
//! **Begin with the [guide]**: [writing a service](guide::service), [a client](guide::client), [a
//! composite](guide::composite); [following a cluster](guide::listening); [testing with the embedded
//! registry](guide::testing); [talking to peers of 2012](guide::old_peers).
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`service`] | serving typed methods, registering, draining |
//! | [`client`] | finding instances by a query and calling them |
//! | [`blocking`] | both for programs without tokio |
//! | [`registry`] | who is there, and where; also the embedded registry |
//! | [`query`] | the language that chooses instances |
//! | [`metrics`] | what services and clients measure |
//! | [`rpc`] | the wire: connections and servers below both |
//! | [`hint`] | what a reader of an error can do about it |

pub mod backoff;
pub mod blocking;
pub mod client;
pub mod daemon_api;
#[cfg(feature = "demo")]
pub mod demo;
mod files;
pub mod guide;
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
