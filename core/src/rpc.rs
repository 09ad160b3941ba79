//! BSON RPC on TCP: frames, messages, connections, server.

pub mod admin;
pub mod conn;
pub mod error;
pub mod frame;
pub mod handler;
pub mod message;
pub mod server;
mod socket;
mod timer;
pub mod typed;

pub use conn::{ConnectOptions, Connection, Expected, Reply, Request, RequestInfo};
pub use error::{CallFailure, Called, Code, ConnectError, Ended, Outcome, Peer, Why};
pub use server::Limits;
