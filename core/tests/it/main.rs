//! Integration tests of the library: real sockets and real processes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed set-up fails the test"
)]

mod blocking;
mod client;
mod composite;
mod demo_services;
mod instance_process;
mod many_calls;
mod method_options;
mod metrics;
mod polyglot;
mod registry_access;
mod registry_claims;
mod registry_client;
mod registry_cluster;
mod registry_cold;
mod registry_conformance;
mod registry_disk;
mod registry_embedded;
mod registry_etcdctl;
mod registry_faults;
mod registry_guards;
mod registry_instances;
mod registry_kill;
mod registry_listing;
mod registry_process;
mod registry_random;
mod registry_rotation;
mod rpc_calls;
mod rpc_conversations;
mod rpc_faults;
mod rpc_hostile;
mod rpc_ledger;
mod rpc_limits;
mod rpc_old_peers;
mod rpc_restart;
mod rpc_support;
mod rpc_vectors;
mod service_lifecycle;
mod tidy;
