//! From the rows of a listing to what they change in what is known. Pure but for giving way.
//!
//! Invariants: a row that stands in the registry as it is known is not read again, and one that
//! reads as it is known changes nothing, so that the known row stays the same one in memory; a
//! suspect is always read, because its row is not what the registry says; what was not listed is
//! gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use etcd_client::{GetResponse, KeyValue};

use super::super::key::{self, RawKey};
use super::super::names::Names;
use super::super::origin::Witness;
use super::super::read;
use super::super::snapshot::Change;
use super::super::unreadable::Unread;
use super::{Known, Listing, Position};
use crate::instance::{Identity, InstanceId, State};

/// Rows that are read before others get their turn on the thread.
const ROWS_AT_ONCE: usize = 256;

/// Takes pages and holds them against what is known.
pub(super) struct Reader<'a> {
    prefix: &'a str,
    names: &'a mut Names,
    known: Known<'a>,
    /// What was listed, and whether under the key of the instance that is shown.
    instances: HashMap<InstanceId, bool>,
    /// What was listed of the instances that are not shown because another has their id.
    twins: HashSet<Identity>,
    children: HashSet<InstanceId>,
    hosts: HashSet<Arc<str>>,
    changed: Vec<Change>,
    unreadable: Vec<Unread>,
    /// The newest row, in its place in the registry's history.
    witness: Option<Witness>,
    /// Rows whose value was read.
    n_read: usize,
    /// Whether rows may be passed over unread: the registry's history goes on from what is known.
    continues: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(prefix: &'a str, names: &'a mut Names, known: Known<'a>) -> Self {
        Self {
            prefix,
            names,
            known,
            instances: HashMap::new(),
            twins: HashSet::new(),
            children: HashSet::new(),
            hosts: HashSet::new(),
            changed: Vec::new(),
            unreadable: Vec::new(),
            witness: None,
            n_read: 0,
            continues: false,
        }
    }

    /// Reads a page and lets it go.
    pub(super) async fn read(&mut self, page: GetResponse) {
        self.continues = self.known.since.is_some_and(|since| {
            let at = super::position_of(page.header());
            at.cluster_id == since.cluster_id && at.revision >= since.revision
        });
        for rows in page.kvs().chunks(ROWS_AT_ONCE) {
            for row in rows {
                self.read_row(row);
            }
            tokio::task::yield_now().await;
        }
    }

    fn read_row(&mut self, row: &KeyValue) {
        let Some(key) = RawKey::split(self.prefix, row.key()) else {
            return;
        };
        let newest = self.witness.as_ref().map(|witness| witness.revision);
        if newest < Some(row.mod_revision()) {
            self.witness = Some(Witness::of(row));
        }
        if !(self.continues && self.stands(key, row)) {
            self.n_read += 1;
            let change = match read::put(self.names, self.prefix, row) {
                Ok(Some(change)) => change,
                Ok(None) => return,
                // What cannot be read is as good as absent.
                Err(error) => {
                    self.unreadable.push(Unread::of(row, &error));
                    return;
                }
            };
            if !self.is_known(&change) {
                self.changed.push(change);
            }
        }
        match key {
            RawKey::Instance { id, .. } => self.note_instance(key, id),
            RawKey::Child { id, .. } => drop(self.children.insert(id)),
            RawKey::Host(name) => {
                if let Some(name) = key::decode(name) {
                    self.hosts.insert(self.names.one(&name));
                }
            }
            RawKey::Address { .. } | RawKey::Id(_) => {}
        }
    }

    fn note_instance(&mut self, key: RawKey<'_>, id: InstanceId) {
        let snapshot = self.known.snapshot;
        let is_shown = snapshot
            .registered_row(id)
            .is_none_or(|shown| key.is_instance(&shown.identity));
        *self.instances.entry(id).or_default() |= is_shown;
        let mut twins = snapshot.twins_of(id);
        if let Some(twin) = twins.find(|twin| key.is_instance(&twin.identity)) {
            self.twins.insert(twin.identity.clone());
        }
    }

    /// Whether the row has not changed since it became known.
    fn stands(&self, key: RawKey<'_>, row: &KeyValue) -> bool {
        let snapshot = self.known.snapshot;
        match key {
            RawKey::Instance { id, .. } => snapshot.rows_of(id).any(|known| {
                known.mod_revision == row.mod_revision()
                    && known.lease == row.lease()
                    && known.state != State::Suspect
                    && key.is_instance(&known.identity)
            }),
            RawKey::Child { id, .. } => snapshot.child_row(id).is_some_and(|known| {
                known.mod_revision == row.mod_revision() && key.is_child(&known.identity)
            }),
            RawKey::Host(name) => key::decode(name)
                .and_then(|name| snapshot.host(&name))
                .is_some_and(|known| known.mod_revision == row.mod_revision()),
            RawKey::Address { .. } | RawKey::Id(_) => false,
        }
    }

    /// Whether the change says what is known.
    fn is_known(&self, change: &Change) -> bool {
        let snapshot = self.known.snapshot;
        match change {
            Change::PutInstance(row) => snapshot.row_at(&row.identity) == Some(row),
            Change::PutChild(row) => snapshot.child_row(row.id()) == Some(row),
            Change::PutHost(row) => snapshot.host(&row.name) == Some(row),
            Change::RemoveInstance(_) | Change::RemoveChild(_) | Change::RemoveHost(_) => false,
        }
    }

    /// What all pages together say.
    pub(super) fn finish(self, position: Position) -> Listing {
        let snapshot = self.known.snapshot;
        let instances = snapshot
            .registered()
            .map(|row| row.id())
            .filter(|id| !self.instances.contains_key(id))
            .map(Change::RemoveInstance);
        let moved = snapshot
            .registered()
            .filter(|row| self.instances.get(&row.id()) == Some(&false));
        let twins = snapshot
            .twins()
            .filter(|twin| !self.twins.contains(&twin.identity));
        let moved = moved.chain(twins).map(|row| row.identity.clone()).collect();
        let children = snapshot
            .children()
            .map(|row| row.id())
            .filter(|id| !self.children.contains(id))
            .map(Change::RemoveChild);
        let hosts = snapshot
            .hosts()
            .map(|row| Arc::clone(&row.name))
            .filter(|name| !self.hosts.contains(name))
            .map(Change::RemoveHost);
        Listing {
            position,
            cluster: None,
            witness: self.witness,
            unreadable: self.unreadable,
            gone: instances.chain(children).chain(hosts).collect(),
            moved,
            n_read: self.n_read,
            changed: self.changed,
        }
    }
}

#[cfg(test)]
mod tests;
