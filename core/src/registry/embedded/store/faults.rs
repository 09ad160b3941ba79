//! A store that forgets what it must not: for tests of those who rely on it.

use super::{FIRST_REVISION, Refusal, Store};

impl Store {
    /// Becomes empty, at the first revision; returns the places of the dropped versions.
    pub(in crate::registry::embedded) fn forget_all(&mut self) -> Vec<(i64, i64)> {
        let places = self
            .keys
            .values()
            .flatten()
            .map(|version| (version.mod_revision, version.sub))
            .collect();
        let history = usize::try_from(self.history).unwrap_or(usize::MAX);
        // Compacted up to 0 means nothing, and unlike "never" it is written to a disk.
        *self = Self::restore(history, FIRST_REVISION, 0, []);
        places
    }

    /// Becomes what it was at `revision`; returns the places of the dropped versions.
    pub(in crate::registry::embedded) fn go_back(
        &mut self,
        revision: i64,
    ) -> Result<Vec<(i64, i64)>, Refusal> {
        if revision > self.revision {
            return Err(Refusal::FutureRevision);
        }
        if revision < self.compacted.max(FIRST_REVISION) || revision + 1 < self.log_start {
            return Err(Refusal::Compacted);
        }
        let places = self
            .log(revision + 1, self.revision)
            .flat_map(|(_, changes)| changes.iter())
            .map(|change| (change.now.mod_revision, change.now.sub))
            .collect();
        self.take_back(revision);
        Ok(places)
    }
}
