//! An immutable, indexed view of the cluster at one revision.
//!
//! Invariants: iteration is in the order of service, version, region, host, id; an instance of
//! `instances/` hides the child of the same id in `status/`; of several keys with one id (a cloned
//! machine) one is shown, which one depends on their values only, and the next when that one is
//! gone; a clone shares its structure, so that applying a burst of changes does not copy the world. Knows nothing of etcd: queries, balancers
//! and consoles are tested on snapshots built by [`Snapshot::of`].

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use imbl::ordmap::DiffItem;
use imbl::{HashMap, OrdMap};
use tokio::time::Instant;

use crate::instance::{Host, Identity, Instance, InstanceId, State};

/// One change of the cluster, as the watch reads it.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// An instance was registered or changed.
    PutInstance(Arc<Instance>),
    /// An instance's key is gone.
    RemoveInstance(InstanceId),
    /// A daemon's word on a child that is not registered.
    PutChild(Arc<Instance>),
    /// A daemon's word on a child is gone.
    RemoveChild(InstanceId),
    /// A host was registered or changed.
    PutHost(Arc<Host>),
    /// A host's key is gone.
    RemoveHost(Arc<str>),
}

/// More than half of a service's instances vanished at once, and they are not given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alarm {
    /// How many are missed now.
    pub vanished: usize,
    /// How many there were before.
    pub of: usize,
    /// When the first of them vanished.
    pub since: Instant,
}

impl Alarm {
    /// What vanished is held for so long at most.
    pub const HOLD: Duration = Duration::from_mins(10);
}

/// The cluster at one revision of the registry.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    epoch: u64,
    revision: i64,
    alarms: Arc<BTreeMap<Arc<str>, Alarm>>,
    unreadable: usize,
    rows: OrdMap<Identity, Arc<Instance>>,
    registered: HashMap<InstanceId, Arc<Instance>>,
    /// Registered under the id of one that is shown, but under another key: hardly ever any.
    twins: OrdMap<(InstanceId, Identity), Arc<Instance>>,
    children: HashMap<InstanceId, Arc<Instance>>,
    hosts: OrdMap<Arc<str>, Arc<Host>>,
}

impl Snapshot {
    /// A snapshot of these instances and hosts, for tests and benches.
    pub fn of(
        instances: impl IntoIterator<Item = Instance>,
        hosts: impl IntoIterator<Item = Host>,
    ) -> Self {
        let mut snapshot = Self::default();
        for instance in instances {
            let instance = Arc::new(instance);
            snapshot.apply(if instance.state.is_child_only() {
                Change::PutChild(instance)
            } else {
                Change::PutInstance(instance)
            });
        }
        for host in hosts {
            snapshot.apply(Change::PutHost(Arc::new(host)));
        }
        snapshot
    }

    /// The registry's revision that this view has reached.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// How often the registry turned out to be another one, or an older state of itself, while this
    /// view was followed. Revisions are compared only within one epoch, where they never go back.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The services of which more than half vanished at once, by name.
    pub fn alarms(&self) -> &BTreeMap<Arc<str>, Alarm> {
        &self.alarms
    }

    /// The alarm over the most instances, the first by name among equals.
    pub fn worst_alarm(&self) -> Option<(&Arc<str>, Alarm)> {
        self.alarms
            .iter()
            .map(|(service, alarm)| (service, *alarm))
            .max_by_key(|(service, alarm)| (alarm.vanished, Reverse(*service)))
    }

    /// How many values of the registry cannot be read, and are passed over.
    pub fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// Every instance and child, ordered by service, version, region, host and id.
    pub fn instances(&self) -> impl DoubleEndedIterator<Item = &Arc<Instance>> {
        self.rows.values()
    }

    /// The instances of one service, in the same order.
    pub fn of_service<'a>(
        &'a self,
        service: &str,
    ) -> impl Iterator<Item = &'a Arc<Instance>> + use<'a> {
        let service: Arc<str> = Arc::from(service);
        let first = Identity {
            service: Arc::clone(&service),
            version: Arc::from(""),
            region: Arc::from(""),
            host: Arc::from(""),
            id: InstanceId::nil(),
        };
        self.rows
            .range(first..)
            .map(|(_, instance)| instance)
            .take_while(move |instance| instance.identity.service == service)
    }

    /// The instance or child with this id.
    pub fn instance(&self, id: InstanceId) -> Option<&Arc<Instance>> {
        self.registered.get(&id).or_else(|| self.children.get(&id))
    }

    /// The registered instance with this id.
    pub(super) fn registered_row(&self, id: InstanceId) -> Option<&Arc<Instance>> {
        self.registered.get(&id)
    }

    /// The registered instance with exactly this identity, though another of its id be shown.
    pub(super) fn row_at(&self, identity: &Identity) -> Option<&Arc<Instance>> {
        let shown = self.registered.get(&identity.id);
        shown
            .filter(|shown| shown.identity == *identity)
            .or_else(|| self.twins.get(&(identity.id, identity.clone())))
    }

    /// The registered instances with this id, the one that is shown first.
    pub(super) fn rows_of(&self, id: InstanceId) -> impl Iterator<Item = &Arc<Instance>> {
        self.registered
            .get(&id)
            .into_iter()
            .chain(self.twins_of(id))
    }

    /// The registered instances that are not shown, because another has their id.
    pub(super) fn twins(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.twins.values()
    }

    /// Takes the instance of exactly this identity away if another of its id is there to be shown.
    pub(super) fn remove_twin(&mut self, identity: &Identity) -> bool {
        let id = identity.id;
        if self.twins.remove(&(id, identity.clone())).is_some() {
            return true;
        }
        let is_shown = self
            .registered
            .get(&id)
            .is_some_and(|shown| shown.identity == *identity);
        if !is_shown || self.best_twin(id).is_none() {
            return false;
        }
        self.remove_row(id);
        self.registered.remove(&id);
        self.show_best(id);
        self.restore_row(id);
        true
    }

    /// What a daemon tells of the child with this id.
    pub(super) fn child_row(&self, id: InstanceId) -> Option<&Arc<Instance>> {
        self.children.get(&id)
    }

    /// The registered instances, in no order.
    pub(super) fn registered(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.registered.values()
    }

    /// The children that daemons tell of, in no order.
    pub(super) fn children(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.children.values()
    }

    /// The ids of the instances and children that are not as they were in `before`, in the order of
    /// iteration; one whose names changed comes twice. What both share costs nothing, so following
    /// a large cluster change by change is cheap.
    pub fn changed_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = InstanceId> + 'a {
        before.rows.diff(&self.rows).map(|item| match item {
            DiffItem::Add(_, instance) | DiffItem::Remove(_, instance) => instance.id(),
            DiffItem::Update { new, .. } => new.1.id(),
        })
    }

    /// How many instances and children there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no instance and no child.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Every host, by name.
    pub fn hosts(&self) -> impl DoubleEndedIterator<Item = &Arc<Host>> {
        self.hosts.values()
    }

    /// The host with this name.
    pub fn host(&self, name: &str) -> Option<&Arc<Host>> {
        self.hosts.get(name)
    }

    /// Applies one change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::PutInstance(instance) => {
                let id = instance.id();
                self.remove_row(id);
                self.twins.remove(&(id, instance.identity.clone()));
                let before = self.registered.insert(id, Arc::clone(&instance));
                if let Some(before) = before.filter(|it| it.identity != instance.identity) {
                    self.keep_twin(before);
                }
                self.show_best(id);
                self.restore_row(id);
            }
            Change::RemoveInstance(id) => {
                self.remove_row(id);
                self.registered.remove(&id);
                self.show_best(id);
                self.restore_row(id);
            }
            Change::PutChild(child) => {
                let id = child.id();
                self.remove_row(id);
                self.children.insert(id, child);
                self.restore_row(id);
            }
            Change::RemoveChild(id) => {
                self.remove_row(id);
                self.children.remove(&id);
                self.restore_row(id);
            }
            Change::PutHost(host) => {
                self.hosts.insert(Arc::clone(&host.name), host);
            }
            Change::RemoveHost(name) => {
                self.hosts.remove(&name);
            }
        }
    }

    /// Notes which revision the view has reached.
    pub fn set_position(&mut self, revision: i64) {
        self.revision = revision;
    }

    pub(super) fn begin_epoch(&mut self) {
        self.epoch += 1;
    }

    /// Notes of which services more than half vanished at once.
    pub fn set_alarms(&mut self, alarms: BTreeMap<Arc<str>, Alarm>) {
        if *self.alarms != alarms {
            self.alarms = Arc::new(alarms);
        }
    }

    /// Notes how many values cannot be read.
    pub fn set_unreadable(&mut self, unreadable: usize) {
        self.unreadable = unreadable;
    }

    /// What is registered under this id beside the instance that is shown.
    pub(super) fn twins_of(&self, id: InstanceId) -> impl Iterator<Item = &Arc<Instance>> {
        // There are hardly ever any, and then this costs nothing.
        let twins = Some(&self.twins).filter(|twins| !twins.is_empty());
        twins.into_iter().flat_map(move |twins| {
            twins
                .range((id, first_of(id))..)
                .map(|(_, twin)| twin)
                .take_while(move |twin| twin.id() == id)
        })
    }

    fn best_twin(&self, id: InstanceId) -> Option<&Arc<Instance>> {
        self.twins_of(id)
            .max_by(|one, other| rank(one).cmp(&rank(other)))
    }

    /// Shows that one of an id's registered instances which goes before the others.
    fn show_best(&mut self, id: InstanceId) {
        let Some(best) = self.best_twin(id).map(Arc::clone) else {
            return;
        };
        let shown = self.registered.get(&id);
        if shown.is_some_and(|shown| rank(shown) >= rank(&best)) {
            return;
        }
        self.twins.remove(&(id, best.identity.clone()));
        if let Some(before) = self.registered.insert(id, best) {
            self.keep_twin(before);
        }
    }

    /// A suspect stands in no registry, and nothing would ever take it away.
    fn keep_twin(&mut self, twin: Arc<Instance>) {
        if twin.state != State::Suspect {
            self.twins.insert((twin.id(), twin.identity.clone()), twin);
        }
    }

    fn remove_row(&mut self, id: InstanceId) {
        if let Some(shown) = self.instance(id) {
            let identity = shown.identity.clone();
            self.rows.remove(&identity);
        }
    }

    fn restore_row(&mut self, id: InstanceId) {
        if let Some(shown) = self.instance(id) {
            let shown = Arc::clone(shown);
            self.rows.insert(shown.identity.clone(), shown);
        }
    }
}

/// The first of all identities with this id.
fn first_of(id: InstanceId) -> Identity {
    let none: Arc<str> = Arc::from("");
    Identity {
        service: Arc::clone(&none),
        version: Arc::clone(&none),
        region: Arc::clone(&none),
        host: none,
        id,
    }
}

/// Which of several instances of one id goes before the others: one that serves, then the one that
/// started last, because it may be the same instance that has moved.
fn rank(instance: &Instance) -> impl Ord + '_ {
    let serves = !matches!(
        instance.state,
        State::Leaving | State::Dead | State::Suspect
    );
    (
        serves,
        instance.started,
        instance.mod_revision,
        &instance.identity,
    )
}
