//! From keys and values to changes of a snapshot: pure but for the log.
//!
//! Invariants: an entry that cannot be read is skipped and reported, never a panic; what is below
//! the prefix and none of our business is passed over in silence.

use std::sync::Arc;

use etcd_client::KeyValue;

use super::key::{Key, RawKey};
use super::names::Names;
use super::snapshot::Change;
use super::value::{ChildValue, HostValue, InstanceValue};

/// The change that a written key means; `None` for keys that no snapshot shows.
pub(super) fn put(names: &mut Names, prefix: &str, kv: &KeyValue) -> Option<Change> {
    let (key, value, mod_revision) = (kv.key(), kv.value(), kv.mod_revision());
    let place = RawKey::split(prefix, key)?.decode(|name| names.one(name))?;
    let read = match place {
        Key::Instance(identity) => serde_json::from_slice::<InstanceValue>(value).map(|value| {
            let instance = value.into_instance(identity, mod_revision);
            Change::PutInstance(Arc::new(names.share(instance)))
        }),
        Key::Child { host, id } => serde_json::from_slice::<ChildValue>(value).map(|value| {
            let child = value.into_instance(host, id, mod_revision);
            Change::PutChild(Arc::new(names.share(child)))
        }),
        Key::Host(name) => serde_json::from_slice::<HostValue>(value)
            .map(|value| Change::PutHost(Arc::new(value.into_host(name, mod_revision)))),
        Key::Address { .. } => return None,
    };
    read.inspect_err(|error| {
        let key = String::from_utf8_lossy(key);
        tracing::warn!(%key, %error, "an entry of the registry cannot be read, it is passed over");
    })
    .ok()
}

/// The change that a deleted key means.
pub(super) fn delete(prefix: &str, key: &[u8]) -> Option<Change> {
    match Key::parse(prefix, key)? {
        Key::Instance(identity) => Some(Change::RemoveInstance(identity.id)),
        Key::Child { id, .. } => Some(Change::RemoveChild(id)),
        Key::Host(name) => Some(Change::RemoveHost(name)),
        Key::Address { .. } => None,
    }
}
