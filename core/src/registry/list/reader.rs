//! From the rows of a listing to what they change in what is known. Pure but for giving way.
//!
//! Invariants: a row that stands in the registry as it is known is not read again, and one that
//! reads as it is known changes nothing, so that the known row stays the same one in memory; a
//! suspect is always read, because its row is not what the registry says; what was not listed is
//! gone.

use std::collections::HashSet;
use std::sync::Arc;

use etcd_client::{GetResponse, KeyValue};

use super::super::key::{self, RawKey};
use super::super::names::Names;
use super::super::origin::Witness;
use super::super::read;
use super::super::snapshot::Change;
use super::super::unreadable::Unread;
use super::{Known, Listing, Position};
use crate::instance::{InstanceId, State};

/// Rows that are read before others get their turn on the thread.
const ROWS_AT_ONCE: usize = 256;

/// Takes pages and holds them against what is known.
pub(super) struct Reader<'a> {
    prefix: &'a str,
    names: &'a mut Names,
    known: Known<'a>,
    instances: HashSet<InstanceId>,
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
            instances: HashSet::new(),
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
            RawKey::Instance { id, .. } => drop(self.instances.insert(id)),
            RawKey::Child { id, .. } => drop(self.children.insert(id)),
            RawKey::Host(name) => {
                if let Some(name) = key::decode(name) {
                    self.hosts.insert(self.names.one(&name));
                }
            }
            RawKey::Address { .. } => {}
        }
    }

    /// Whether the row has not changed since it became known.
    fn stands(&self, key: RawKey<'_>, row: &KeyValue) -> bool {
        let snapshot = self.known.snapshot;
        match key {
            RawKey::Instance { id, .. } => snapshot.registered_row(id).is_some_and(|known| {
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
            RawKey::Address { .. } => false,
        }
    }

    /// Whether the change says what is known.
    fn is_known(&self, change: &Change) -> bool {
        let snapshot = self.known.snapshot;
        match change {
            Change::PutInstance(row) => snapshot.registered_row(row.id()) == Some(row),
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
            .filter(|id| !self.instances.contains(id))
            .map(Change::RemoveInstance);
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
            n_read: self.n_read,
            changed: self.changed,
        }
    }
}

#[cfg(test)]
mod tests;
