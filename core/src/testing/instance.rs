//! An instance as tests of snapshots and views need it; they change what matters to them.

use jiff::Timestamp;

use crate::instance::{Identity, Instance, InstanceId, State};

/// A registered, ready instance of service `s`, version `1`, on host `h` in region `r`, without
/// addresses and process, written at revision 1.
pub fn instance(id: u128) -> Instance {
    Instance {
        identity: Identity {
            service: "s".into(),
            version: "1".into(),
            region: "r".into(),
            host: "h".into(),
            id: InstanceId::from_u128(id),
        },
        address: None,
        admin_address: None,
        registered: true,
        state: State::Ready,
        reason: None,
        process: None,
        started: Timestamp::UNIX_EPOCH,
        deployment: None,
        weight: 100,
        lease: 1,
        tags: Vec::new(),
        mod_revision: 1,
    }
}
