//! What an entry of our own is made of, and what becomes of it when others have written: pure.
//!
//! Invariants: fields that we do not know survive our writes; others decide only what is theirs to
//! decide (`registered`), so a living instance that was marked dead by mistake marks itself alive.

use std::sync::Arc;

use super::key::Key;
use super::value::{Claim, HostValue, InstanceValue};
use crate::instance::{Identity, InstanceId, ProcessId};

/// An entry of ours as it should stand in the registry.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) kind: EntryKind,
    /// How often our own program has decided whether clients may choose it. Between two of its
    /// decisions, what others wrote holds.
    pub(super) decisions: u64,
}

/// The two kinds of entries.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum EntryKind {
    /// An instance, and its claim on an address.
    Instance {
        identity: Identity,
        value: InstanceValue,
    },
    /// A daemon's host.
    Host { name: Arc<str>, value: HostValue },
}

/// Who holds a key that we want.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Holder {
    /// We ourselves, under an earlier lease.
    Ourselves,
    /// A process of this host that is gone: its entry may be taken over.
    Gone,
    /// Somebody who lives, or of whom we cannot know.
    Other(ProcessId),
    /// The value cannot be read: somebody spoiled it, and nobody can tell whose it was.
    Unreadable,
}

impl Holder {
    /// The holder, when the key hangs on the lease `on` and ours is `lease`: a value that cannot be
    /// read was ours if it still hangs on our lease, and nobody's if it hangs on none.
    pub(super) fn or_spoiled(self, on: i64, lease: i64) -> Self {
        match self {
            Self::Unreadable if on == 0 || on == lease => Self::Ourselves,
            other => other,
        }
    }
}

impl Entry {
    pub(super) fn key(&self) -> Key {
        match &self.kind {
            EntryKind::Instance { identity, .. } => Key::Instance(identity.clone()),
            EntryKind::Host { name, .. } => Key::Host(Arc::clone(name)),
        }
    }

    /// The claims that are made together with the entry, on its address and its id, by key and
    /// value.
    pub(super) fn claims(&self) -> Vec<(Key, Claim)> {
        let EntryKind::Instance { identity, value } = &self.kind else {
            return Vec::new();
        };
        let claim = Claim {
            uuid: identity.id,
            process: value.process.clone(),
        };
        let address = Key::Address {
            host: Arc::clone(&identity.host),
            port: value.address.port(),
        };
        vec![(address, claim.clone()), (Key::Id(identity.id), claim)]
    }

    /// Makes it an entry under another id.
    pub(super) fn set_id(&mut self, id: InstanceId) {
        if let EntryKind::Instance { identity, .. } = &mut self.kind {
            identity.id = id;
        }
    }

    pub(super) fn process(&self) -> &ProcessId {
        match &self.kind {
            EntryKind::Instance { value, .. } => &value.process,
            EntryKind::Host { value, .. } => &value.process,
        }
    }

    pub(super) fn registered(&self) -> bool {
        match &self.kind {
            EntryKind::Instance { value, .. } => value.registered,
            EntryKind::Host { .. } => true,
        }
    }

    /// The value as it is written under `lease`.
    pub(super) fn encode(&self, lease: i64) -> Result<Vec<u8>, serde_json::Error> {
        match &self.kind {
            EntryKind::Instance { value, .. } => serde_json::to_vec(&InstanceValue {
                lease,
                ..value.clone()
            }),
            EntryKind::Host { value, .. } => serde_json::to_vec(value),
        }
    }

    /// Takes over what others may decide from the value that stands in the registry. `true` when
    /// what stands there is then what we want, so that nothing need be written. A `decided` wish of
    /// our own that is not written yet is newer than theirs.
    pub(super) fn adopt(
        &mut self,
        standing: &[u8],
        decided: bool,
    ) -> Result<bool, serde_json::Error> {
        match &mut self.kind {
            EntryKind::Instance { value, .. } => {
                let theirs: InstanceValue = serde_json::from_slice(standing)?;
                if !decided {
                    value.registered = theirs.registered;
                }
                value.other.clone_from(&theirs.other);
                Ok(InstanceValue {
                    lease: theirs.lease,
                    ..value.clone()
                } == theirs)
            }
            EntryKind::Host { value, .. } => {
                let theirs: HostValue = serde_json::from_slice(standing)?;
                value.other.clone_from(&theirs.other);
                Ok(*value == theirs)
            }
        }
    }

    /// Takes over what our own program wants now, where it `wanted` something else `before`. What it
    /// has not changed stays as others wrote it.
    pub(super) fn set_wanted(&mut self, before: &Self, wanted: &Self) {
        let decided = before.decisions != wanted.decisions;
        match (&mut self.kind, &wanted.kind) {
            (EntryKind::Instance { value, .. }, EntryKind::Instance { value: wanted, .. }) => {
                let other = std::mem::take(&mut value.other);
                let registered = if decided {
                    wanted.registered
                } else {
                    value.registered
                };
                *value = InstanceValue {
                    registered,
                    other,
                    ..wanted.clone()
                };
            }
            (EntryKind::Host { value, .. }, EntryKind::Host { value: wanted, .. }) => {
                let other = std::mem::take(&mut value.other);
                *value = HostValue {
                    other,
                    ..wanted.clone()
                };
            }
            (EntryKind::Instance { .. }, EntryKind::Host { .. })
            | (EntryKind::Host { .. }, EntryKind::Instance { .. }) => {}
        }
    }

    /// Who holds the entry's key, by the value that stands there. `is_alive` tells of a process of
    /// this boot of this host. Under an instance's key, which has its id in it, what cannot be read
    /// is its own.
    pub(super) fn holder(&self, standing: &[u8], is_alive: impl Fn(&ProcessId) -> bool) -> Holder {
        let process = match &self.kind {
            EntryKind::Instance { .. } => {
                serde_json::from_slice::<InstanceValue>(standing).map(|value| value.process)
            }
            EntryKind::Host { .. } => {
                serde_json::from_slice::<HostValue>(standing).map(|value| value.process)
            }
        };
        match (process, &self.kind) {
            (Err(_), EntryKind::Instance { .. }) => Holder::Ourselves,
            (process, _) => self.judge(process.ok(), is_alive),
        }
    }

    /// Who holds the entry's address or id, by the claim that stands there.
    pub(super) fn claim_holder(
        &self,
        standing: &[u8],
        is_alive: impl Fn(&ProcessId) -> bool,
    ) -> Holder {
        let claim = serde_json::from_slice::<Claim>(standing);
        self.judge(claim.ok().map(|claim| claim.process), is_alive)
    }

    fn judge(&self, process: Option<ProcessId>, is_alive: impl Fn(&ProcessId) -> bool) -> Holder {
        match process {
            None => Holder::Unreadable,
            Some(process) if process == *self.process() => Holder::Ourselves,
            Some(process) if process.boot_id == self.process().boot_id && !is_alive(&process) => {
                Holder::Gone
            }
            Some(process) => Holder::Other(process),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::State;

    fn entry() -> Entry {
        let process = ProcessId {
            boot_id: "b".into(),
            pid: 7,
            process_start: 70,
        };
        Entry {
            kind: EntryKind::Instance {
                identity: Identity {
                    service: "s".into(),
                    version: "1".into(),
                    region: "r".into(),
                    host: "h".into(),
                    id: InstanceId::from_u128(1),
                },
                value: InstanceValue {
                    address: "127.0.0.1:9000".parse().unwrap(),
                    admin_address: None,
                    process,
                    started: jiff::Timestamp::UNIX_EPOCH,
                    registered: true,
                    state: State::Ready,
                    reason: None,
                    deployment: None,
                    weight: 100,
                    lease: 5,
                    protocol: 1,
                    tags: Vec::new(),
                    other: serde_json::Map::new(),
                },
            },
            decisions: 0,
        }
    }

    #[test]
    fn a_wish_and_unknown_fields_are_adopted_and_nothing_else() {
        let mut ours = entry();
        let mut json: serde_json::Value = serde_json::from_slice(&ours.encode(9).unwrap()).unwrap();
        json["registered"] = false.into();
        json["colour"] = "red".into();
        assert!(ours.adopt(json.to_string().as_bytes(), false).unwrap());
        assert!(!ours.registered());
        let written: serde_json::Value = serde_json::from_slice(&ours.encode(9).unwrap()).unwrap();
        assert_eq!(written["colour"], "red");

        json["state"] = "dead".into();
        assert!(
            !ours.adopt(json.to_string().as_bytes(), false).unwrap(),
            "a living one is not dead"
        );
        let written: serde_json::Value = serde_json::from_slice(&ours.encode(9).unwrap()).unwrap();
        assert_eq!(written["state"], "ready");

        json["registered"] = true.into();
        assert!(!ours.adopt(json.to_string().as_bytes(), true).unwrap());
        assert!(
            !ours.registered(),
            "a decision that is not written yet stands"
        );
    }

    #[test]
    fn a_holder_is_judged_by_its_process() {
        let ours = entry();
        let mut json: serde_json::Value = serde_json::from_slice(&ours.encode(9).unwrap()).unwrap();
        assert_eq!(
            ours.holder(json.to_string().as_bytes(), |_| true),
            Holder::Ourselves
        );
        json["pid"] = 8.into();
        assert_eq!(
            ours.holder(json.to_string().as_bytes(), |_| false),
            Holder::Gone
        );
        assert!(matches!(
            ours.holder(json.to_string().as_bytes(), |_| true),
            Holder::Other(_)
        ));
        json["boot_id"] = "another".into();
        assert!(
            matches!(
                ours.holder(json.to_string().as_bytes(), |_| false),
                Holder::Other(_)
            ),
            "of another boot nothing is known here"
        );
        assert_eq!(ours.holder(b"not json", |_| true), Holder::Ourselves);
        let claim = ours.claim_holder(b"not json", |_| false);
        assert_eq!(claim, Holder::Unreadable);
        for (on, holder) in [
            (0, Holder::Ourselves),
            (5, Holder::Ourselves),
            (6, Holder::Unreadable),
        ] {
            assert_eq!(claim.clone().or_spoiled(on, 5), holder, "on lease {on}");
        }
    }
}
