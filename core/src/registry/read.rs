//! From keys and values to changes of a snapshot. Pure.
//!
//! Invariants: an entry that cannot be read is an error of this entry, never a panic; what is below
//! the prefix and none of our business is passed over in silence.

use std::sync::Arc;

use etcd_client::KeyValue;

use super::key::{Key, RawKey};
use super::names::Names;
use super::snapshot::Change;
use super::value::{ChildValue, HostValue, InstanceValue};

/// The change that a written key means; `None` for keys that no snapshot shows.
///
/// # Errors
/// When the value is not what its key promises.
pub(super) fn put(
    names: &mut Names,
    prefix: &str,
    kv: &KeyValue,
) -> Result<Option<Change>, serde_json::Error> {
    change(names, prefix, kv.key(), kv.value(), kv.mod_revision())
}

/// The same from the parts of a written key.
///
/// # Errors
/// When the value is not what its key promises.
pub(super) fn change(
    names: &mut Names,
    prefix: &str,
    key: &[u8],
    value: &[u8],
    mod_revision: i64,
) -> Result<Option<Change>, serde_json::Error> {
    let place = RawKey::split(prefix, key).and_then(|key| key.decode(|name| names.one(name)));
    let Some(place) = place else {
        return Ok(None);
    };
    Ok(Some(match place {
        Key::Instance(identity) => {
            let value: InstanceValue = serde_json::from_slice(value)?;
            let instance = value.into_instance(identity, mod_revision);
            Change::PutInstance(Arc::new(names.share(instance)))
        }
        Key::Child { host, id } => {
            let value: ChildValue = serde_json::from_slice(value)?;
            let child = value.into_instance(host, id, mod_revision);
            Change::PutChild(Arc::new(names.share(child)))
        }
        Key::Host(name) => {
            let value: HostValue = serde_json::from_slice(value)?;
            Change::PutHost(Arc::new(value.into_host(name, mod_revision)))
        }
        Key::Address { .. } | Key::Id(_) | Key::Cluster => return Ok(None),
    }))
}
