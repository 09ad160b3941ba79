//! Whether the registry that answers is the one that we know, and its history the one that we saw.
//!
//! Four things tell: etcd's own cluster id; the random id under the `cluster` key; the revision,
//! which never goes back; and a witness, the newest write that we saw: a registry that was put back
//! to an old state and has been written to since shows another write at that revision. Pure.

use etcd_client::KeyValue;
use uuid::Uuid;

use super::link::Doubt;

/// The newest write that was seen: at this revision, this key was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Witness {
    pub(super) key: Vec<u8>,
    pub(super) revision: i64,
}

impl Witness {
    pub(super) fn of(kv: &KeyValue) -> Self {
        Self {
            key: kv.key().to_vec(),
            revision: kv.mod_revision(),
        }
    }
}

/// What a linearizable answer tells of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// etcd's cluster id.
    pub(super) etcd: u64,
    /// The id under the `cluster` key, if the key stands there.
    pub(super) cluster: Option<Uuid>,
    /// The registry's revision.
    pub(super) revision: i64,
}

/// The registry as we know it.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    known: Option<Reading>,
    witness: Option<Witness>,
}

impl Origin {
    /// Why the registry that answers so is not the one that we know, if it is not.
    pub(super) fn doubt(&self, now: Reading) -> Option<Doubt> {
        let known = self.known?;
        if now.etcd != known.etcd {
            return Some(Doubt::AnotherRegistry);
        }
        match (known.cluster, now.cluster) {
            (Some(_), None) => return Some(Doubt::Wiped),
            (Some(known), Some(now)) if known != now => return Some(Doubt::AnotherRegistry),
            // It has just been written by the first who registered.
            (None, _) | (Some(_), Some(_)) => {}
        }
        (now.revision < known.revision).then_some(Doubt::WentBack)
    }

    /// From now on, this is the registry that we know.
    pub(super) fn take(&mut self, now: Reading, witness: Option<Witness>) {
        self.known = Some(now);
        self.witness = witness;
    }

    /// Notes what stands under the `cluster` key now.
    pub(super) fn set_cluster(&mut self, cluster: Option<Uuid>) {
        if let Some(known) = &mut self.known {
            known.cluster = cluster;
        }
    }

    /// The registry as it was seen last.
    pub(super) fn known(&self) -> Option<Reading> {
        self.known
    }

    /// Notes a write that was seen.
    pub(super) fn saw(&mut self, key: &[u8], revision: i64) {
        if let Some(known) = &mut self.known {
            known.revision = known.revision.max(revision);
        }
        let newer = self
            .witness
            .as_ref()
            .is_none_or(|witness| witness.revision < revision);
        if newer {
            self.witness = Some(Witness {
                key: key.to_vec(),
                revision,
            });
        }
    }

    /// What to ask for: the key, as it was at that revision.
    pub(super) fn witness(&self) -> Option<&Witness> {
        self.witness.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_told_by_its_ids_and_by_never_going_back() {
        let reading = |etcd, cluster: u128, revision| Reading {
            etcd,
            cluster: (cluster != 0).then(|| Uuid::from_u128(cluster)),
            revision,
        };
        let known = reading(1, 7, 50);
        for (now, doubt) in [
            (reading(1, 7, 50), None),
            (reading(1, 7, 51), None),
            (reading(2, 7, 51), Some(Doubt::AnotherRegistry)),
            (reading(1, 8, 51), Some(Doubt::AnotherRegistry)),
            (reading(1, 0, 51), Some(Doubt::Wiped)),
            (reading(1, 7, 49), Some(Doubt::WentBack)),
        ] {
            let mut origin = Origin::default();
            assert_eq!(origin.doubt(now), None, "the first is believed");
            origin.take(known, None);
            assert_eq!(origin.doubt(now), doubt, "{now:?}");
            origin.set_cluster(None);
            if now.etcd == 1 && now.revision >= 50 {
                assert_eq!(
                    origin.doubt(now),
                    None,
                    "the first comer has written the key"
                );
            }
        }
    }

    #[test]
    fn the_newest_write_is_the_witness() {
        let mut origin = Origin::default();
        let reading = Reading {
            etcd: 1,
            cluster: None,
            revision: 5,
        };
        origin.take(reading, None);
        for (key, revision) in [("a", 7), ("b", 9), ("c", 8)] {
            origin.saw(key.as_bytes(), revision);
        }
        let witness = origin.witness().unwrap();
        assert_eq!((&*witness.key, witness.revision), (&b"b"[..], 9));
        let back = Reading {
            revision: 8,
            ..reading
        };
        assert_eq!(origin.doubt(back), Some(Doubt::WentBack));
    }
}
