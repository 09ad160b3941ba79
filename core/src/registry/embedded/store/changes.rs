//! An open transaction on the store.
//!
//! Invariants: what it wrote is visible to its own reads; nothing is logged and the revision does
//! not move if it wrote nothing; a transaction cannot fail half-way, so whoever opens one has
//! checked everything before.

use std::sync::Arc;

use bytes::Bytes;

use super::{Change, Found, Store, Version, Want};
use crate::registry::embedded::range::KeyRange;

/// The writes of one revision.
#[derive(Debug)]
pub(in crate::registry::embedded) struct Changes<'store> {
    store: &'store mut Store,
    changes: Vec<Change>,
}

impl<'store> Changes<'store> {
    pub(super) fn new(store: &'store mut Store) -> Self {
        Self {
            store,
            changes: Vec::new(),
        }
    }

    /// The revision that an answer from within the transaction names.
    pub(in crate::registry::embedded) fn revision(&self) -> i64 {
        self.store.revision + i64::from(!self.changes.is_empty())
    }

    /// The store as it was, for checks of revisions.
    pub(in crate::registry::embedded) fn store(&self) -> &Store {
        self.store
    }

    /// Reads with the transaction's own writes, or at an older revision.
    pub(in crate::registry::embedded) fn read(
        &self,
        range: &KeyRange,
        revision: i64,
        want: Want,
    ) -> Found {
        self.store.read(range, revision, want)
    }

    /// The newest state of `key`.
    pub(in crate::registry::embedded) fn get(&self, key: &[u8]) -> Option<&Arc<Version>> {
        self.store.get(key)
    }

    /// Writes `key`; returns what stood there before.
    pub(in crate::registry::embedded) fn put(
        &mut self,
        key: Bytes,
        value: Bytes,
        lease: i64,
    ) -> Option<Arc<Version>> {
        let revision = self.store.revision + 1;
        let last = self.store.get(&key);
        let (create_revision, version) = last.map_or((revision, 1), |last| {
            (last.create_revision, last.version + 1)
        });
        self.record(Version {
            key,
            value,
            create_revision,
            mod_revision: revision,
            sub: self.next_sub(),
            version,
            lease,
        })
    }

    /// Deletes all keys of `range`; returns what stood there, in the order of the keys.
    pub(in crate::registry::embedded) fn delete(&mut self, range: &KeyRange) -> Vec<Arc<Version>> {
        let revision = self.store.revision + 1;
        let found = self.store.read(range, revision, Want::First(0)).versions;
        for version in &found {
            self.record(Version {
                key: version.key.clone(),
                value: Bytes::new(),
                create_revision: 0,
                mod_revision: revision,
                sub: self.next_sub(),
                version: 0,
                lease: 0,
            });
        }
        found
    }

    /// Logs the revision; returns it with its changes, or nothing if nothing was written.
    pub(in crate::registry::embedded) fn finish(mut self) -> Option<Arc<[Change]>> {
        if self.changes.is_empty() {
            return None;
        }
        self.store.log_revision(&mut self.changes);
        self.store.log.back().cloned()
    }

    fn next_sub(&self) -> i64 {
        i64::try_from(self.changes.len()).unwrap_or(i64::MAX)
    }

    fn record(&mut self, version: Version) -> Option<Arc<Version>> {
        let version = Arc::new(version);
        let before = self.store.insert(&version);
        self.changes.push(Change {
            now: version,
            before: before.clone(),
        });
        before
    }
}
