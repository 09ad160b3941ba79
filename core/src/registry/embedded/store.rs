//! Every key with its recent versions, and the log of recent revisions: etcd's MVCC, in memory.
//!
//! Pure and sync: it knows no lease clock, no disk, no network. Invariants: a revision is one
//! transaction and never changes once it is logged; a key appears at most once per revision; every
//! version that a read at or above the compacted revision can see is kept; the log holds the last
//! `history` revisions without a gap, even when somebody compacted them, so that watchers that lag
//! by a moment lose nothing.

mod changes;
#[cfg(feature = "testing")]
mod faults;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

pub(super) use self::changes::Changes;
use super::{range::KeyRange, refusal::Refusal};

/// The revision of a store that nothing was ever written to, as etcd counts.
pub(super) const FIRST_REVISION: i64 = 1;

/// What "nothing was compacted yet" looks like in etcd.
const NOT_COMPACTED: i64 = -1;

/// One state of one key; never changed once made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_field_names,
    reason = "the fields have the names that etcd gives them"
)]
pub(super) struct Version {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) create_revision: i64,
    pub(super) mod_revision: i64,
    /// The place within its revision.
    pub(super) sub: i64,
    /// How often the key was written since it was created; 0 says that it was deleted.
    pub(super) version: i64,
    /// 0 is none.
    pub(super) lease: i64,
}

impl Version {
    /// Whether this says that the key is gone.
    pub(super) fn is_tombstone(&self) -> bool {
        self.version == 0
    }

    /// What it takes in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        // The struct, its two shared buffers and its places in the map and in the log.
        self.key.len() + self.value.len() + 200
    }
}

/// One key's change within a revision.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) now: Arc<Version>,
    /// What stood there before; `None` where there was nothing, or where it is no longer known.
    pub(super) before: Option<Arc<Version>>,
}

/// What a read found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In the order of their keys, at most as many as the limit.
    pub(super) versions: Vec<Arc<Version>>,
    /// All of them, whatever the limit.
    pub(super) count: usize,
}

/// What a read wants back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// The number only.
    Count,
    /// At most so many; 0 is no limit.
    First(usize),
}

/// The keys, their versions, and the log.
#[derive(Debug)]
pub(super) struct Store {
    keys: BTreeMap<Bytes, VecDeque<Arc<Version>>>,
    /// The change lists of the revisions `log_start..=revision`.
    log: VecDeque<Arc<[Change]>>,
    log_start: i64,
    revision: i64,
    compacted: i64,
    history: i64,
    bytes: usize,
}

impl Store {
    /// An empty store that remembers the last `history` revisions (at least one).
    pub(super) fn new(history: usize) -> Self {
        Self {
            keys: BTreeMap::new(),
            log: VecDeque::new(),
            log_start: FIRST_REVISION + 1,
            revision: FIRST_REVISION,
            compacted: NOT_COMPACTED,
            history: i64::try_from(history.max(1)).unwrap_or(i64::MAX),
            bytes: 0,
        }
    }

    /// Rebuilds a store from what was kept of one: its versions in the order of their revisions.
    pub(super) fn restore(
        history: usize,
        revision: i64,
        compacted: i64,
        versions: impl IntoIterator<Item = Version>,
    ) -> Self {
        let mut store = Self::new(history);
        store.compacted = compacted;
        store.revision = FIRST_REVISION.max(compacted);
        store.log_start = store.revision + 1;
        let mut pending: Vec<Change> = Vec::new();
        for version in versions {
            let version = Arc::new(version);
            let at = version.mod_revision;
            if let Some(last) = pending.last()
                && last.now.mod_revision != at
            {
                store.log_revision(&mut pending);
            }
            let before = store.insert(&version);
            // From the compacted revision on every row was kept, so the log has no gap.
            if at >= compacted {
                if store.log.is_empty() && pending.is_empty() {
                    store.log_start = at;
                }
                pending.push(Change {
                    now: version,
                    before,
                });
            }
        }
        store.log_revision(&mut pending);
        store.revision = store.revision.max(revision);
        store
    }

    /// The revision of the last write.
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// The revision below which nothing can be read, −1 if all can.
    pub(super) fn compacted(&self) -> i64 {
        self.compacted
    }

    /// The first revision whose changes are in the log.
    pub(super) fn log_start(&self) -> i64 {
        self.log_start
    }

    /// Roughly what the store holds in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Checks that a read at `revision` can be answered; 0 and less is the newest.
    pub(super) fn check_revision(&self, revision: i64, newest: i64) -> Result<i64, Refusal> {
        if revision <= 0 {
            Ok(newest)
        } else if revision > newest {
            Err(Refusal::FutureRevision)
        } else if revision < self.compacted {
            Err(Refusal::Compacted)
        } else {
            Ok(revision)
        }
    }

    /// What stood in `range` at `revision`, which the caller has checked.
    pub(super) fn read(&self, range: &KeyRange, revision: i64, want: Want) -> Found {
        let mut found = Found::default();
        let Some(bounds) = range.bounds() else {
            return found;
        };
        for (_, versions) in self.keys.range::<[u8], _>(bounds) {
            let Some(version) = at(versions, revision) else {
                continue;
            };
            found.count += 1;
            match want {
                Want::Count => {}
                Want::First(limit) if limit != 0 && found.versions.len() >= limit => {}
                Want::First(_) => found.versions.push(Arc::clone(version)),
            }
        }
        found
    }

    /// The newest state of `key`, if it exists.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Arc<Version>> {
        self.keys
            .get(key)?
            .back()
            .filter(|version| !version.is_tombstone())
    }

    /// The rows that etcd's hash at `revision` is made of: what was written above the compacted
    /// revision, and what still stood at `revision` of what was written before.
    pub(super) fn hashed_rows(&self, revision: i64) -> Vec<Arc<Version>> {
        // Where nothing stood at `revision`, etcd takes all old rows that it still has.
        let stood_any = self.keys.values().any(|all| at(all, revision).is_some());
        let mut rows = Vec::new();
        for versions in self.keys.values() {
            let standing = at(versions, revision).map(|version| version.mod_revision);
            rows.extend(
                versions
                    .iter()
                    .filter(|version| {
                        version.mod_revision <= revision
                            && (version.mod_revision > self.compacted
                                || if stood_any {
                                    standing == Some(version.mod_revision)
                                } else {
                                    !version.is_tombstone()
                                })
                    })
                    .cloned(),
            );
        }
        rows
    }

    /// Every row.
    pub(super) fn rows(&self) -> Vec<Arc<Version>> {
        self.keys.values().flatten().cloned().collect()
    }

    /// The keys that hang on a lease, with its id.
    pub(super) fn leased(&self) -> impl Iterator<Item = (&Bytes, i64)> {
        self.keys
            .values()
            .filter_map(VecDeque::back)
            .filter(|version| version.lease != 0)
            .map(|version| (&version.key, version.lease))
    }

    /// Every version that is kept, in the order of their revisions.
    pub(super) fn versions(&self) -> Vec<Arc<Version>> {
        let mut versions: Vec<_> = self.keys.values().flatten().cloned().collect();
        versions.sort_unstable_by_key(|version| (version.mod_revision, version.sub));
        versions
    }

    /// The changes of the revisions `from..=to`, oldest first; starts later where the log does.
    pub(super) fn log(&self, from: i64, to: i64) -> impl Iterator<Item = (i64, &Arc<[Change]>)> {
        let first = from.max(self.log_start);
        let skip = usize::try_from(first - self.log_start).unwrap_or(usize::MAX);
        (first..=to).zip(self.log.range(skip.min(self.log.len())..))
    }

    /// Opens a transaction: everything written through it is one revision.
    pub(super) fn change(&mut self) -> Changes<'_> {
        Changes::new(self)
    }

    /// Forgets what only reads below `revision` can see; returns the places of the dropped
    /// versions.
    pub(super) fn compact(&mut self, revision: i64) -> Result<Vec<(i64, i64)>, Refusal> {
        if revision <= self.compacted {
            return Err(Refusal::Compacted);
        }
        if revision > self.revision {
            return Err(Refusal::FutureRevision);
        }
        let touched: Vec<Bytes> = self
            .log(self.compacted, revision)
            .flat_map(|(_, changes)| changes.iter().map(|change| change.now.key.clone()))
            .collect();
        self.compacted = revision;
        let mut dropped = Vec::new();
        for key in touched {
            self.trim(&key, &mut dropped);
        }
        Ok(dropped)
    }

    /// Compacts what is older than the history, but nothing above `keep`, and shortens the log.
    /// Returns the places of the dropped versions.
    pub(super) fn compact_history(&mut self, keep: i64) -> Vec<(i64, i64)> {
        let oldest = (self.revision - self.history).min(keep);
        if oldest < FIRST_REVISION {
            return Vec::new();
        }
        // Nothing below is refused here: an operator may have compacted further already.
        let dropped = self.compact(oldest).unwrap_or_default();
        while self.log_start < oldest && self.log.pop_front().is_some() {
            self.log_start += 1;
        }
        dropped
    }

    /// Unwrites every revision above `revision`, which nobody may have seen.
    pub(super) fn take_back(&mut self, revision: i64) {
        while self.revision > revision
            && let Some(changes) = self.log.pop_back()
        {
            self.revision -= 1;
            for change in changes.iter() {
                let Some(versions) = self.keys.get_mut(&change.now.key) else {
                    continue;
                };
                versions.pop_back();
                self.bytes = self.bytes.saturating_sub(change.now.size());
                if versions.is_empty() {
                    self.keys.remove(&change.now.key);
                }
            }
        }
    }

    /// Drops the versions of `key` that nobody can read any more.
    fn trim(&mut self, key: &Bytes, dropped: &mut Vec<(i64, i64)>) {
        let Some(versions) = self.keys.get_mut(key) else {
            return;
        };
        let old = versions.partition_point(|version| version.mod_revision <= self.compacted);
        let mut drop_n = old.saturating_sub(1);
        // The last old version is what a read at the compacted revision sees; a tombstone is seen
        // by nobody, but the one of that very revision stays until the next time, so that the rows
        // on a disk never lack the newest revision.
        if let Some(last) = old.checked_sub(1).and_then(|idx| versions.get(idx))
            && last.is_tombstone()
            && last.mod_revision < self.compacted
        {
            drop_n = old;
        }
        for version in versions.drain(..drop_n) {
            self.bytes = self.bytes.saturating_sub(version.size());
            dropped.push((version.mod_revision, version.sub));
        }
        if versions.is_empty() {
            self.keys.remove(key);
        }
    }

    /// Files `version` as the newest of its key; returns what stood there before.
    fn insert(&mut self, version: &Arc<Version>) -> Option<Arc<Version>> {
        self.bytes += version.size();
        let versions = self.keys.entry(version.key.clone()).or_default();
        let before = versions.back().filter(|last| !last.is_tombstone()).cloned();
        versions.push_back(Arc::clone(version));
        before
    }

    fn log_revision(&mut self, pending: &mut Vec<Change>) {
        if let Some(last) = pending.last() {
            self.revision = last.now.mod_revision;
            self.log.push_back(std::mem::take(pending).into());
        }
    }
}

/// What a key's versions say at `revision`, if the key existed then.
fn at(versions: &VecDeque<Arc<Version>>, revision: i64) -> Option<&Arc<Version>> {
    let idx = versions.partition_point(|version| version.mod_revision <= revision);
    versions
        .get(idx.checked_sub(1)?)
        .filter(|version| !version.is_tombstone())
}
