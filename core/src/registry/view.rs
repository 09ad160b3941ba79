//! The view of the cluster: pure application of what the watch reads.
//!
//! Invariants: it never goes back: an event that is older than what stands is passed over, row by
//! row, unless the registry is another one; absence is not death: an instance that vanishes without
//! having said `leaving` or been marked `dead` stays as *suspect* for a while, for longer when most
//! of its service vanished with it, and just as it was while a registry that is not the known one
//! fills again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::key::Key;
use super::link::Doubt;
use super::protection::{Protection, Row};
use super::removal::RemovalGuard;
use super::snapshot::{Change, Snapshot};
use super::suspects::Suspects;
use crate::instance::{Identity, Instance, InstanceId, State};

/// So many removals are remembered, so that an event that comes again brings nothing back.
const REMOVALS: usize = 4_096;

/// The snapshot in the making.
#[derive(Debug, Default)]
pub(super) struct ViewBuilder {
    snapshot: Snapshot,
    suspects: Suspects,
    guard: RemovalGuard,
    protection: Option<Protection>,
    /// At which revision an instance's key was deleted lately.
    removed: HashMap<InstanceId, i64>,
}

impl ViewBuilder {
    /// The snapshot as it stands; the copy shares its structure.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    /// Begins with what the disk remembers, before anything was listed.
    pub(super) fn begin_from(&mut self, snapshot: Snapshot) {
        self.snapshot = snapshot;
    }

    /// What has just vanished is no reason for an alarm: only the disk told of it.
    pub(super) fn excuse(&mut self) {
        self.guard = RemovalGuard::default();
    }

    pub(super) fn revision(&self) -> i64 {
        self.snapshot.revision()
    }

    /// What is kept, and why, if anything is.
    pub(super) fn protection(&self) -> Option<&Protection> {
        self.protection.as_ref()
    }

    /// The registry is not the one that was known: what it does not tell of is kept for `grace`, and
    /// revisions are counted anew. A listing has to follow, to tell what stands there.
    pub(super) fn protect(&mut self, why: Doubt, grace: Duration, now: Instant) {
        self.protection = Some(Protection::begin(why, grace, now));
        self.removed.clear();
        self.snapshot.begin_epoch();
    }

    /// How many values cannot be read, for the snapshot.
    pub(super) fn set_unreadable(&mut self, unreadable: usize) {
        self.snapshot.set_unreadable(unreadable);
    }

    /// The registry was away, and nobody could register: what waits to be given up has the whole
    /// time again.
    pub(super) fn prolong(&mut self, now: Instant) {
        self.suspects.prolong(now);
        self.guard.prolong(now);
        if let Some(protection) = &mut self.protection {
            protection.prolong(now);
        }
    }

    /// Applies one written key of the watch.
    pub(super) fn apply(&mut self, change: Change) {
        if self.is_news(&change) {
            self.put(change);
        }
    }

    /// Applies one deleted key of the watch.
    pub(super) fn remove(&mut self, key: Key, revision: i64, now: Instant) {
        match key {
            Key::Instance(identity) => {
                let at = self.snapshot.row_at(&identity);
                if at.is_some_and(|at| at.mod_revision < revision)
                    && self.snapshot.remove_twin(&identity)
                {
                    return;
                }
                let known = self.snapshot.registered_row(identity.id);
                // It may stand under another key by now, or have come back: then this is old news.
                if known.is_some_and(|known| {
                    known.identity == identity && known.mod_revision < revision
                        || self.is_kept(&Row::Instance(identity.id))
                }) {
                    self.vanish(identity.id, revision, now);
                }
            }
            Key::Child { id, .. } => {
                let known = self.snapshot.child_row(id).map(|child| child.mod_revision);
                self.lose_if_older(Row::Child(id), known, revision);
            }
            Key::Host(name) => {
                let known = self.snapshot.host(&name).map(|host| host.mod_revision);
                self.lose_if_older(Row::Host(name), known, revision);
            }
            Key::Address { .. } | Key::Id(_) | Key::Cluster => {}
        }
    }

    /// Notes the revision that has been reached.
    pub(super) fn reached(&mut self, revision: i64) {
        if revision > self.snapshot.revision() {
            self.snapshot.set_position(revision);
        }
    }

    /// Forgets what stands under these keys no more, where another of the same id does: to be told
    /// before a listing is taken, and again behind it.
    pub(super) fn forget_moved(&mut self, moved: &[Identity]) {
        for identity in moved {
            self.snapshot.remove_twin(identity);
        }
    }

    /// Takes a listing that was held against this view; what is missing in it vanishes.
    pub(super) fn replace(
        &mut self,
        changed: Vec<Change>,
        gone: Vec<Change>,
        revision: i64,
        now: Instant,
    ) {
        if let Some(protection) = &mut self.protection {
            // What stands there as it is known need not be told again.
            protection.confirm_all();
        }
        for change in gone {
            match change {
                Change::RemoveInstance(id) => self.vanish(id, revision, now),
                Change::RemoveChild(id) => self.lose(Row::Child(id)),
                Change::RemoveHost(name) => self.lose(Row::Host(name)),
                Change::PutInstance(_) | Change::PutChild(_) | Change::PutHost(_) => {}
            }
        }
        self.removed.clear();
        for change in changed {
            // The listing is the truth of its moment, whatever revision stood before.
            self.put(change);
        }
        self.snapshot.set_position(revision);
    }

    /// Weighs what has vanished: to be called behind each batch of events and each listing.
    pub(super) fn weigh(&mut self, now: Instant) {
        let snapshot = &self.snapshot;
        let released = self.guard.weigh(|service| standing(snapshot, service), now);
        self.release(released, now);
    }

    /// An operator knows of what vanished: nothing is held for longer than usual.
    pub(super) fn dismiss(&mut self, now: Instant) {
        let released = self.guard.dismiss();
        self.release(released, now);
    }

    /// When there is something to be given up.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        match &self.protection {
            Some(protection) => Some(protection.until),
            None => [self.suspects.next(), self.guard.next_end()]
                .into_iter()
                .flatten()
                .min(),
        }
    }

    /// Gives up what has had its time; `true` when the view changed.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let mut changed = false;
        if let Some(protection) = self.protection.take() {
            if !protection.is_over(now) {
                self.protection = Some(protection);
                return false;
            }
            changed = true;
            let revision = self.snapshot.revision();
            for row in protection.into_kept() {
                match row {
                    Row::Instance(id) => self.suspect(id, revision, now),
                    other => self.lose(other),
                }
            }
        }
        let released = self.guard.expire(now);
        if !released.is_empty() {
            tracing::warn!(
                n_instances = released.len(),
                "what vanished at once did not come back, it is held no longer"
            );
            self.release(released, now);
            changed = true;
        }
        while let Some(id) = self.suspects.pop(now) {
            let service = match self.snapshot.registered_row(id) {
                Some(known) if known.state == State::Suspect => Arc::clone(known.service()),
                _ => continue,
            };
            // What is held waits to be released.
            if !self.guard.holds(&service) {
                self.guard.accounted(&service, id);
                self.snapshot.apply(Change::RemoveInstance(id));
                changed = true;
            }
        }
        if changed {
            self.weigh(now);
        }
        changed
    }

    fn put(&mut self, change: Change) {
        if let (Some(protection), Some(row)) = (&mut self.protection, row_of_put(&change)) {
            protection.confirm(&row);
        }
        if let Change::PutInstance(instance) = &change {
            self.suspects.forget(instance.id());
            self.guard.accounted(instance.service(), instance.id());
            self.removed.remove(&instance.id());
        }
        self.snapshot.apply(change);
    }

    /// Whether a written key is newer than what stands.
    fn is_news(&self, change: &Change) -> bool {
        if row_of_put(change).is_some_and(|row| self.is_kept(&row)) {
            return true;
        }
        match change {
            Change::PutInstance(instance) => {
                let id = instance.id();
                let known = self.snapshot.row_at(&instance.identity);
                let known = known.map(|known| known.mod_revision);
                known.max(self.removed.get(&id).copied()) <= Some(instance.mod_revision)
            }
            Change::PutChild(child) => {
                let known = self.snapshot.child_row(child.id());
                known.is_none_or(|known| known.mod_revision <= child.mod_revision)
            }
            Change::PutHost(host) => {
                let known = self.snapshot.host(&host.name);
                known.is_none_or(|known| known.mod_revision <= host.mod_revision)
            }
            Change::RemoveInstance(_) | Change::RemoveChild(_) | Change::RemoveHost(_) => true,
        }
    }

    fn is_kept(&self, row: &Row) -> bool {
        self.protection
            .as_ref()
            .is_some_and(|protection| protection.keeps(row))
    }

    fn vanish(&mut self, id: InstanceId, revision: i64, now: Instant) {
        let Some(known) = self.snapshot.registered_row(id) else {
            return;
        };
        match (known.state, &mut self.protection) {
            (State::Leaving | State::Dead, _) => {
                let service = Arc::clone(known.service());
                self.guard.accounted(&service, id);
                self.note_removed(id, revision);
                self.snapshot.apply(Change::RemoveInstance(id));
            }
            (_, Some(protection)) => protection.keep(Row::Instance(id)),
            (State::Suspect, None) => {}
            (_, None) => self.suspect(id, revision, now),
        }
    }

    fn suspect(&mut self, id: InstanceId, revision: i64, now: Instant) {
        let Some(known) = self.snapshot.registered_row(id) else {
            return;
        };
        let suspect = Instance {
            state: State::Suspect,
            reason: Some(Arc::from("vanished from the registry without a word")),
            // A row that was kept may count by another registry's revisions, higher than any that
            // tells of it from now on.
            mod_revision: known.mod_revision.min(revision),
            ..Instance::clone(known)
        };
        self.guard.vanished(suspect.service(), id, now);
        self.snapshot.apply(Change::PutInstance(Arc::new(suspect)));
        self.suspects.add(id, now);
        self.note_removed(id, revision);
    }

    fn note_removed(&mut self, id: InstanceId, revision: i64) {
        if self.removed.len() >= REMOVALS {
            self.removed.clear();
        }
        self.removed.insert(id, revision);
    }

    fn lose_if_older(&mut self, row: Row, known: Option<i64>, revision: i64) {
        if known.is_some_and(|known| known < revision) || self.is_kept(&row) {
            self.lose(row);
        }
    }

    /// Children and hosts are gone when their keys are, unless they are kept.
    fn lose(&mut self, row: Row) {
        if let Some(protection) = &mut self.protection {
            protection.keep(row);
            return;
        }
        self.snapshot.apply(match row {
            Row::Instance(id) => Change::RemoveInstance(id),
            Row::Child(id) => Change::RemoveChild(id),
            Row::Host(name) => Change::RemoveHost(name),
        });
    }

    /// Gives those that were held the usual time, and tells the alarms that still stand.
    fn release(&mut self, released: Vec<InstanceId>, now: Instant) {
        for id in released {
            let known = self.snapshot.registered_row(id);
            if known.is_some_and(|known| known.state == State::Suspect) {
                self.suspects.add(id, now);
            }
        }
        self.snapshot.set_alarms(self.guard.alarms());
    }
}

fn row_of_put(change: &Change) -> Option<Row> {
    match change {
        Change::PutInstance(instance) => Some(Row::Instance(instance.id())),
        Change::PutChild(child) => Some(Row::Child(child.id())),
        Change::PutHost(host) => Some(Row::Host(Arc::clone(&host.name))),
        Change::RemoveInstance(_) | Change::RemoveChild(_) | Change::RemoveHost(_) => None,
    }
}

/// How many instances of a service stand in the registry and have not said that they go.
fn standing(snapshot: &Snapshot, service: &str) -> usize {
    let stands = |state| {
        matches!(
            state,
            State::Starting | State::Ready | State::Pressured | State::Draining
        )
    };
    snapshot
        .of_service(service)
        .filter(|instance| stands(instance.state))
        .count()
}

#[cfg(test)]
mod tests;
