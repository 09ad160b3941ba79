//! What stands in the registry: the JSON values, readable with `etcdctl get`.
//!
//! Invariants: fields that we do not know are kept by whoever rewrites a value; a value that does
//! not read is an error that names the key, never a panic.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::instance::{Host, Identity, Instance, ProcessId, State};

/// Fields of a newer program, kept as they are.
pub type OtherFields = serde_json::Map<String, serde_json::Value>;

fn usual_weight() -> u32 {
    100
}

/// `instances/…`: an instance's own entry, on its own lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceValue {
    /// Where it answers.
    pub address: SocketAddr,
    /// Where it answers `Admin` requests.
    #[serde(default)]
    pub admin_address: Option<SocketAddr>,
    /// Its process.
    #[serde(flatten)]
    pub process: ProcessId,
    /// When it started.
    pub started: Timestamp,
    /// Whether clients may choose it.
    pub registered: bool,
    /// What it is doing.
    pub state: State,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// The deployment that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<Arc<str>>,
    /// Its share of the traffic; 100 is usual.
    #[serde(default = "usual_weight")]
    pub weight: u32,
    /// The lease that the key hangs on.
    #[serde(default)]
    pub lease: i64,
    /// The version of the wire protocol.
    #[serde(default)]
    pub protocol: u32,
    /// Free words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Arc<str>>,
    /// Fields of a newer program.
    #[serde(flatten)]
    pub other: OtherFields,
}

impl InstanceValue {
    /// The instance that stands under `identity`.
    pub fn into_instance(self, identity: Identity, mod_revision: i64) -> Instance {
        Instance {
            identity,
            address: Some(self.address),
            admin_address: self.admin_address,
            registered: self.registered,
            state: self.state,
            reason: self.reason,
            process: Some(self.process),
            started: self.started,
            deployment: self.deployment,
            weight: self.weight,
            lease: self.lease,
            tags: self.tags,
            mod_revision,
        }
    }
}

/// `addr/{host}/{port}` and `ids/{uuid}`: who has the address, and the id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The instance's id.
    pub uuid: uuid::Uuid,
    /// Its process.
    #[serde(flatten)]
    pub process: ProcessId,
}

/// `hosts/{host}`: a daemon's entry, on the daemon's lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostValue {
    /// The region that the host is in.
    pub region: Arc<str>,
    /// Where the daemon answers.
    pub address: SocketAddr,
    /// The daemon's process.
    #[serde(flatten)]
    pub process: ProcessId,
    /// When the daemon started.
    pub started: Timestamp,
    /// The daemon's version.
    #[serde(default)]
    pub version: String,
    /// Fields of a newer program.
    #[serde(flatten)]
    pub other: OtherFields,
}

impl HostValue {
    /// The host that stands under `name`.
    pub fn into_host(self, name: Arc<str>, mod_revision: i64) -> Host {
        Host {
            name,
            region: self.region,
            address: self.address,
            process: self.process,
            started: self.started,
            mod_revision,
        }
    }
}

/// `status/{host}/{uuid}`: a daemon's word on a child that is not registered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChildValue {
    /// The service's name.
    pub service: Arc<str>,
    /// The service's version.
    pub version: Arc<str>,
    /// The region of the host.
    pub region: Arc<str>,
    /// One of the states that only a child has.
    pub state: State,
    /// Why, for people: how it ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// When it last started.
    pub started: Timestamp,
    /// When it is started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Timestamp>,
    /// Fields of a newer program.
    #[serde(flatten)]
    pub other: OtherFields,
}

impl ChildValue {
    /// The row that views show for this child.
    pub fn into_instance(
        self,
        host: Arc<str>,
        id: crate::instance::InstanceId,
        mod_revision: i64,
    ) -> Instance {
        Instance {
            identity: Identity {
                service: self.service,
                version: self.version,
                region: self.region,
                host,
                id,
            },
            address: None,
            admin_address: None,
            registered: false,
            state: self.state,
            reason: self.reason,
            process: None,
            started: self.started,
            deployment: None,
            weight: usual_weight(),
            lease: 0,
            tags: Vec::new(),
            mod_revision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_newer_program_are_kept_to_the_last_digit() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Newer {
            #[serde(flatten)]
            other: OtherFields,
        }
        let text = r#"{"uuid":"00000000-0000-0000-0000-000000000001","boot_id":"b","pid":7,
            "process_start":0,"large":1111111111111111111110,"fine":2.2250738585072011e-308}"#;
        let read: Newer = serde_json::from_str(text).unwrap();
        let mut again = serde_json::to_string(&read).unwrap();
        for _ in 0..3 {
            let newer: Newer = serde_json::from_str(&again).unwrap();
            assert_eq!(newer, read);
            again = serde_json::to_string(&newer).unwrap();
        }
    }
}
