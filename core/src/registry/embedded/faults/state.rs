//! Faults of what is stored: leases that go, history that is compacted, data that is lost or old.
//!
//! Invariants: each is one request of the owner's queue, so nobody sees half of it, and a disk
//! learns of it like of any other; after one that goes back in revision all connections break off,
//! because watchers keep positions that are no longer true.

use std::{collections::BTreeSet, sync::PoisonError};

use super::{FaultRefused, Faults, Standing, lock};
use crate::registry::embedded::{
    engine::Engine, lease::Lessor, range::KeyRange, refusal::Refusal, store::Want,
};

/// The TTL of a lease that stands again after the data went back, in seconds.
const RESTORED_TTL: i64 = 10;

impl Faults {
    /// Ends a lease with its keys, as if it had expired.
    ///
    /// # Errors
    ///
    /// [`FaultRefused`] if there is no such lease, or the registry is stopped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not take it back; so it is with all of them.
    pub async fn revoke(&self, lease: i64) -> Result<(), FaultRefused> {
        self.call(move |engine| engine.revoke(lease))
            .await
            .map(drop)
    }

    /// The same, but renewals go on succeeding for ever: the defect of etcd before 3.4.38 and
    /// 3.5.23.
    ///
    /// # Errors
    ///
    /// [`FaultRefused`] if there is no such lease, or the registry is stopped.
    pub async fn revoke_secretly(&self, lease: i64) -> Result<(), FaultRefused> {
        let ttl = self
            .call(move |engine| {
                let ttl = engine.lessor.get(lease).map(|lease| lease.ttl);
                engine.revoke(lease)?;
                ttl.ok_or(Refusal::LeaseNotFound)
            })
            .await?;
        if let Some(one) = self.switches.first() {
            lock(&one.shared.ghosts).insert(lease, ttl);
        }
        Ok(())
    }

    /// Forgets all history up to now, as an operator's compaction does.
    ///
    /// # Errors
    ///
    /// [`FaultRefused`] if it was compacted there already, or the registry is stopped.
    pub async fn compact(&self) -> Result<(), FaultRefused> {
        self.call(|engine| engine.compact(engine.visible))
            .await
            .map(drop)
    }

    /// Empties the registry: no key, no lease, the first revision.
    ///
    /// # Errors
    ///
    /// [`FaultRefused`] if the registry is stopped.
    pub async fn lose_data(&self) -> Result<(), FaultRefused> {
        self.call(|engine| {
            let dropped = engine.store.forget_all();
            engine.writes.dropped.extend(dropped);
            // Also where nothing was stored: the revision must be told.
            engine.writes.compacted = true;
            let leases: Vec<i64> = engine.lessor.ids().collect();
            let gone = leases.into_iter().map(|lease| (lease, None));
            engine.writes.leases.extend(gone);
            *engine.lessor = Lessor::default();
            Ok(())
        })
        .await?;
        self.cut();
        Ok(())
    }

    /// Goes back to what stood at `revision`, as if restored from an old snapshot. The leases are
    /// those that the keys of then hang on, each with its whole time (10 s if it is gone since).
    ///
    /// # Errors
    ///
    /// [`FaultRefused`] if that revision is compacted or still to come, or the registry is stopped.
    pub async fn go_back(&self, revision: i64) -> Result<(), FaultRefused> {
        self.call(move |engine| {
            let dropped = engine.store.go_back(revision)?;
            engine.writes.dropped.extend(dropped);
            engine.writes.compacted = true;
            restore_leases(engine);
            Ok(())
        })
        .await?;
        self.cut();
        Ok(())
    }

    /// The newest revision.
    pub fn revision(&self) -> i64 {
        *self.state.committed.borrow()
    }

    /// The leases that live, soonest to expire first.
    ///
    /// # Errors
    ///
    /// [`FaultRefused`] if the registry is stopped.
    pub async fn leases(&self) -> Result<Vec<i64>, FaultRefused> {
        self.call(|engine| Ok(engine.leases())).await
    }

    /// What stands below `prefix`, by key, without asking over any connection.
    pub fn standing(&self, prefix: &str) -> Vec<Standing> {
        let range = KeyRange::new(
            prefix.as_bytes(),
            &crate::registry::list::range_end(prefix.as_bytes()),
        );
        let store = self
            .state
            .store
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        store
            .read(&range, self.revision(), Want::First(0))
            .versions
            .iter()
            .map(|version| Standing {
                key: String::from_utf8_lossy(&version.key).into_owned(),
                value: version.value.to_vec(),
                lease: version.lease,
                mod_revision: version.mod_revision,
            })
            .collect()
    }
}

/// Makes the leases those that the keys name.
fn restore_leases(engine: &mut Engine<'_>) {
    let named: BTreeSet<i64> = engine.store.leased().map(|(_, lease)| lease).collect();
    let known: Vec<i64> = engine.lessor.ids().collect();
    for lease in known {
        if named.contains(&lease) {
            engine.renew(lease);
        } else {
            engine.lessor.remove(lease);
            engine.writes.leases.push((lease, None));
        }
    }
    for lease in named {
        // It fails for those that live still.
        if engine.lessor.grant(lease, RESTORED_TTL, engine.now).is_ok() {
            engine.writes.leases.push((lease, Some(RESTORED_TTL)));
        }
    }
    engine.lessor.attach_only(engine.store.leased());
}
