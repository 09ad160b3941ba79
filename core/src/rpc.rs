//! BSON RPC on TCP: frames, messages, connections, server.

pub mod error;
pub mod frame;
pub mod message;
pub mod typed;

pub use error::{CallFailure, Code, ConnectError, Ended, Peer, Why};
