//! The registry's requests, applied to the store and the lessor together.
//!
//! Pure and sync: time is given, and what must reach the disk is collected in [`Writes`].
//! Invariants: a key hangs on the lease that its newest version names; a lease that goes takes its
//! keys with it in one revision; a refused request has changed nothing.

use std::sync::Arc;

use etcd_client::proto::{
    PbDeleteRequest, PbDeleteResponse, PbPutRequest, PbPutResponse, PbTxnRequest, PbTxnResponse,
};
use tokio::time::Instant;

use super::{
    disk::{Identity, Writes, backup::Backup, record::Stamp},
    lease::{Lease, Lessor},
    range::KeyRange,
    refusal::Refusal,
    store::{Change, Store},
    txn,
};

/// Leases that expire in one go; the next batch takes the others, so calls get their turn.
const MAX_EXPIRED: usize = 1000;

/// What a lease looks like from outside.
#[derive(Debug)]
pub(super) struct LeaseView {
    /// Seconds, rounded down.
    pub(super) remaining: i64,
    /// Seconds.
    pub(super) granted: i64,
    /// Sorted; empty if they were not asked for.
    pub(super) keys: Vec<Vec<u8>>,
}

/// The leases that a batch granted or removed (those as they were), in the order of the requests:
/// what is needed to take a batch back.
pub(super) type Undo = Vec<(i64, Option<Lease>)>;

/// Takes a batch back that could not be written: the state is that of the revision `committed`
/// again, but what was compacted meanwhile stays so.
pub(super) fn take_back(store: &mut Store, lessor: &mut Lessor, undo: Undo, committed: i64) {
    store.take_back(committed);
    for (id, lease) in undo.into_iter().rev() {
        match lease {
            Some(lease) => lessor.put_back(id, lease),
            None => drop(lessor.remove(id)),
        }
    }
    lessor.attach_only(store.leased());
}

/// What an answer depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Basis {
    /// The state as the batch left it so far: if that cannot be written, the answer is wrong.
    State,
    /// Whether the file could be defragmented.
    Defragmented,
    /// Nothing that is written.
    Nothing,
}

/// The state, opened for one request of a batch.
pub(super) struct Engine<'state> {
    pub(super) store: &'state mut Store,
    pub(super) lessor: &'state mut Lessor,
    pub(super) writes: &'state mut Writes,
    pub(super) undo: &'state mut Undo,
    pub(super) now: Instant,
    /// The newest revision that readers see: nothing at or above it may be compacted by itself.
    pub(super) visible: i64,
    /// Whether nothing may be written that takes more room.
    pub(super) is_full: bool,
    /// What the answer depends on, as long as the request itself writes nothing.
    pub(super) basis: Basis,
}

impl Engine<'_> {
    /// Writes one key.
    pub(super) fn put(&mut self, request: PbPutRequest) -> Result<PbPutResponse, Refusal> {
        self.check_room()?;
        txn::check_put(self.store, self.lessor, &request)?;
        let mut changes = self.store.change();
        let response = txn::apply_put(&mut changes, request);
        let changes = changes.finish();
        self.record(changes);
        Ok(response)
    }

    /// Deletes a range.
    pub(super) fn delete(&mut self, request: &PbDeleteRequest) -> PbDeleteResponse {
        let mut changes = self.store.change();
        let response = txn::apply_delete(&mut changes, request);
        let changes = changes.finish();
        self.record(changes);
        response
    }

    /// Runs a transaction.
    pub(super) fn txn(&mut self, request: PbTxnRequest) -> Result<PbTxnResponse, Refusal> {
        if txn::may_put(&request) {
            self.check_room()?;
        }
        txn::check_ops(self.store, self.lessor, &request)?;
        let mut changes = self.store.change();
        let response = txn::apply(&mut changes, request);
        let changes = changes.finish();
        self.record(changes);
        Ok(response)
    }

    /// Forgets the versions that only reads below `revision` see; answers the newest revision.
    pub(super) fn compact(&mut self, revision: i64) -> Result<i64, Refusal> {
        if revision > self.visible {
            return Err(Refusal::FutureRevision);
        }
        let dropped = self.store.compact(revision)?;
        self.writes.dropped.extend(dropped);
        self.writes.compacted = true;
        Ok(self.store.revision())
    }

    /// Grants a lease; answers its id and TTL.
    pub(super) fn grant(&mut self, id: i64, ttl: i64) -> Result<(i64, i64), Refusal> {
        self.check_room()?;
        let (id, ttl) = self.lessor.grant(id, ttl, self.now)?;
        self.undo.push((id, None));
        self.writes.leases.push((id, Some(ttl)));
        Ok((id, ttl))
    }

    /// Ends a lease and deletes its keys; answers the newest revision.
    pub(super) fn revoke(&mut self, id: i64) -> Result<i64, Refusal> {
        let lease = self.lessor.remove(id).ok_or(Refusal::LeaseNotFound)?;
        self.writes.leases.push((id, None));
        let mut changes = self.store.change();
        for key in lease.keys() {
            changes.delete(&KeyRange::One(key.clone()));
        }
        let changes = changes.finish();
        self.undo.push((id, Some(lease)));
        self.record(changes);
        Ok(self.store.revision())
    }

    /// Gives a lease its TTL again; answers it, or 0 for an unknown lease.
    pub(super) fn renew(&mut self, id: i64) -> i64 {
        // Renewing needs no disk, unless the batch granted or ended this very lease.
        if !self.undo.iter().any(|(changed, _)| *changed == id) {
            self.basis = Basis::Nothing;
        }
        self.lessor.renew(id, self.now).unwrap_or(0)
    }

    /// Looks at a lease.
    pub(super) fn time_to_live(&self, id: i64, with_keys: bool) -> Option<LeaseView> {
        let lease = self.lessor.get(id)?;
        Some(LeaseView {
            remaining: lease.remaining_secs(self.now),
            granted: lease.ttl,
            keys: if with_keys {
                lease.keys().map(|key| key.to_vec()).collect()
            } else {
                Vec::new()
            },
        })
    }

    /// The ids of all leases, soonest to expire first.
    pub(super) fn leases(&self) -> Vec<i64> {
        self.lessor.ids().collect()
    }

    /// Every lease's id and TTL in seconds.
    pub(super) fn ttls(&self) -> Vec<(i64, i64)> {
        let leases = self.lessor.ids();
        leases
            .filter_map(|id| Some((id, self.lessor.get(id)?.ttl)))
            .collect()
    }

    /// Gives every lease its TTL again.
    pub(super) fn renew_all(&mut self) {
        self.basis = Basis::Nothing;
        self.lessor.renew_all(self.now);
    }

    /// Ends the leases whose time is over; answers how many.
    pub(super) fn expire(&mut self) -> usize {
        let mut n_expired = 0;
        while n_expired < MAX_EXPIRED
            && let Some(id) = self.lessor.expired(self.now)
        {
            // It was found a moment ago, so it is there.
            let _ = self.revoke(id);
            n_expired += 1;
        }
        n_expired
    }

    /// Lets the file give back what it does not need.
    pub(super) fn defragment(&mut self) {
        self.writes.defragment = true;
        self.basis = Basis::Defragmented;
    }

    /// Looks for room at once, since somebody says that there is some.
    pub(super) fn disarm(&mut self) {
        self.writes.disarm = true;
        self.basis = Basis::Nothing;
    }

    /// Waits for its turn and asks for nothing.
    pub(super) fn look_at_nothing(&mut self) {
        self.basis = Basis::Nothing;
    }

    /// Everything, as it stands after the requests before this one.
    pub(super) fn backup(&self, identity: Identity) -> Backup {
        let versions: Vec<_> = self.store.versions();
        let leases = self.lessor.ids();
        Backup {
            stamp: Stamp {
                identity,
                revision: self.store.revision(),
                compacted: self.store.compacted(),
                commit: 0,
                n_versions: 0,
                n_leases: 0,
            },
            leases: leases
                .filter_map(|id| Some((id, self.lessor.get(id)?.ttl)))
                .collect(),
            versions,
        }
    }

    fn check_room(&self) -> Result<(), Refusal> {
        if self.is_full {
            Err(Refusal::NoSpace)
        } else {
            Ok(())
        }
    }

    /// Files what a transaction changed: with the leases, for the disk, and in the history.
    fn record(&mut self, changes: Option<Arc<[Change]>>) {
        let Some(changes) = changes else {
            return;
        };
        for Change { now, before } in changes.iter() {
            let old_lease = before.as_ref().map_or(0, |before| before.lease);
            if old_lease != now.lease {
                self.lessor.detach(old_lease, &now.key);
            }
            if now.lease != 0 {
                self.lessor.attach(now.lease, now.key.clone());
            }
            self.writes.versions.push(Arc::clone(now));
        }
        let compacted = self.store.compacted();
        let dropped = self.store.compact_history(self.visible);
        self.writes.dropped.extend(dropped);
        self.writes.compacted |= compacted != self.store.compacted();
    }
}
