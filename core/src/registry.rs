//! The central registry: who is there, and where.
//!
//! Readers hold a [`snapshot::Snapshot`]; only this folder speaks etcd. The registry is advice: what
//! a client sees on the wire overrides what stands here.

pub mod key;
pub mod link;
pub mod snapshot;
pub mod value;
