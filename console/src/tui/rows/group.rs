//! Instances under one name: regions, hosts, services, versions; and how many of each there are.
//!
//! Invariants: a group counts what the filter selects; hosts and regions without instances show
//! while the filter asks for nothing but hosts and regions. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use skynet::instance::{Host, Identity, Instance, InstanceId, State as InstanceState};

use super::super::cells::average;
use super::super::state::measure::Measure;
use super::super::state::row::{Group, Row, RowKey};
use super::super::state::{State, Totals, ViewKind};
use super::order::key_order;
use super::{facts, selected};

/// How many names of a group are kept to be shown.
const MAX_NAMES: usize = 16;

/// How many rows each view would have without a filter.
pub fn totals(state: &State) -> Totals {
    let mut regions: HashSet<&str> = HashSet::new();
    let mut hosts: HashSet<&str> = HashSet::new();
    let (mut services, mut versions) = (0, 0);
    let mut before: Option<&Identity> = None;
    for instance in state.snapshot.instances() {
        let identity = &instance.identity;
        // Most neighbors are in one region, and comparing is cheaper than hashing.
        if before.is_none_or(|before| before.region != identity.region) {
            regions.insert(&identity.region);
        }
        if before.is_none_or(|before| before.host != identity.host) {
            hosts.insert(&identity.host);
        }
        // Instances come in the order of service and version, so that a change is a new one.
        let same_service = before.is_some_and(|before| before.service == identity.service);
        if !same_service {
            services += 1;
        }
        if !same_service || before.is_some_and(|before| before.version != identity.version) {
            versions += 1;
        }
        before = Some(identity);
    }
    for host in state.snapshot.hosts() {
        regions.insert(&host.region);
        hosts.insert(&host.name);
    }
    Totals {
        regions: regions.len(),
        hosts: hosts.len(),
        services,
        versions,
        instances: state.snapshot.len(),
    }
}

/// Whether a group's row stands for the instance.
pub fn belongs(key: &RowKey, instance: &Instance) -> bool {
    match key {
        RowKey::Instance(id) => instance.id() == *id,
        RowKey::Region(region) => instance.region() == region,
        RowKey::Host(host) => instance.host() == host,
        RowKey::Service(service) => instance.service() == service,
        RowKey::Version(service, version) => {
            instance.service() == service && instance.version() == version
        }
    }
}

/// The row of the view that stands for the instance.
pub fn key_of(view: ViewKind, instance: &Instance) -> RowKey {
    match view {
        ViewKind::Instances => RowKey::Instance(instance.id()),
        _ => GroupName::of(view, instance).key(instance),
    }
}

/// How many instances these groups have together.
pub fn instances_of(groups: &[Row]) -> usize {
    groups
        .iter()
        .map(|row| match row {
            Row::Instance(_) => 1,
            Row::Group(group) => group.total,
        })
        .sum()
}

/// The groups of the view that is shown, in the order of their names.
pub fn groups(state: &State) -> Vec<Row> {
    let view = state.view;
    let mut gathered: HashMap<GroupName<'_>, Gathering<'_>> = HashMap::new();
    for instance in selected(state) {
        let name = GroupName::of(view, instance);
        let gathering = gathered
            .entry(name)
            .or_insert_with(|| Gathering::new(name.key(instance)));
        gathering.add(instance, view, state.measures.of(instance.id()));
    }
    let mut groups: Vec<Group> = gathered.into_values().map(Gathering::finish).collect();
    if matches!(view, ViewKind::Hosts | ViewKind::Regions) {
        add_hosts(state, &mut groups);
    }
    groups.sort_by(|left, right| key_order(&left.key, &right.key));
    groups
        .into_iter()
        .map(|group| Row::Group(Arc::new(group)))
        .collect()
}

/// The name of a group without its ownership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct GroupName<'a>(&'a str, &'a str, ViewKind);

impl<'a> GroupName<'a> {
    fn of(view: ViewKind, instance: &'a Instance) -> Self {
        match view {
            ViewKind::Regions => Self(instance.region(), "", view),
            ViewKind::Hosts => Self(instance.host(), "", view),
            ViewKind::Services => Self(instance.service(), "", view),
            ViewKind::Versions | ViewKind::Instances => {
                Self(instance.service(), instance.version(), view)
            }
        }
    }

    fn key(self, instance: &Instance) -> RowKey {
        match self.2 {
            ViewKind::Regions => RowKey::Region(Arc::clone(instance.region())),
            ViewKind::Hosts => RowKey::Host(Arc::clone(instance.host())),
            ViewKind::Services => RowKey::Service(Arc::clone(instance.service())),
            ViewKind::Versions | ViewKind::Instances => RowKey::Version(
                Arc::clone(instance.service()),
                Arc::clone(instance.version()),
            ),
        }
    }
}

/// A group while its instances are added.
struct Gathering<'a> {
    group: Group,
    hosts: HashSet<&'a str>,
    names: BTreeSet<&'a Arc<str>>,
    weighted_us: i128,
}

impl<'a> Gathering<'a> {
    fn new(key: RowKey) -> Self {
        Self {
            group: empty(key),
            hosts: HashSet::new(),
            names: BTreeSet::new(),
            weighted_us: 0,
        }
    }

    fn add(&mut self, instance: &'a Instance, view: ViewKind, measure: Option<&Measure>) {
        let group = &mut self.group;
        group.total += 1;
        group.ready += usize::from(instance.state == InstanceState::Ready);
        group.registered += usize::from(instance.registered);
        if view == ViewKind::Hosts && group.region.is_none() {
            group.region = Some(Arc::clone(instance.region()));
        }
        self.hosts.insert(instance.host());
        let name = match view {
            ViewKind::Regions | ViewKind::Hosts => instance.service(),
            _ => instance.version(),
        };
        if self.names.len() < MAX_NAMES {
            self.names.insert(name);
        }
        if let Some(measure) = measure {
            self.measure(measure);
        }
    }

    fn measure(&mut self, measure: &Measure) {
        let group = &mut self.group;
        let stats = &measure.stats;
        group.measured += 1;
        group.clients = group.clients.saturating_add(stats.clients);
        group.requests = group.requests.saturating_add(stats.requests.max(0));
        self.weighted_us += i128::from(stats.avg_us) * i128::from(stats.requests.max(0));
        group.worst_us = group.worst_us.max(average(measure));
        if let Some(rps) = measure.rps {
            group.rps = Some(group.rps.unwrap_or(0.0) + rps);
        }
    }

    fn finish(self) -> Group {
        let requests = i128::from(self.group.requests);
        let avg_us = (requests > 0).then(|| self.weighted_us / requests.max(1));
        Group {
            hosts: self.hosts.len(),
            names: self.names.into_iter().cloned().collect(),
            avg_us: avg_us.and_then(|us| i64::try_from(us).ok()),
            ..self.group
        }
    }
}

fn empty(key: RowKey) -> Group {
    Group {
        key,
        region: None,
        address: None,
        total: 0,
        ready: 0,
        registered: 0,
        hosts: 0,
        measured: 0,
        clients: 0,
        requests: 0,
        rps: None,
        avg_us: None,
        worst_us: None,
        names: Vec::new(),
    }
}

/// Adds what registered hosts say: addresses, and hosts and regions without instances.
fn add_hosts(state: &State, groups: &mut Vec<Group>) {
    let known: HashMap<RowKey, usize> = groups
        .iter()
        .enumerate()
        .map(|(index, group)| (group.key.clone(), index))
        .collect();
    let query = state.filter.query();
    let empty_ones = query.is_all() || query.hosts_and_regions_only();
    let mut added: HashMap<RowKey, Group> = HashMap::new();
    for host in state.snapshot.hosts() {
        let key = match state.view {
            ViewKind::Regions => RowKey::Region(Arc::clone(&host.region)),
            _ => RowKey::Host(Arc::clone(&host.name)),
        };
        if let Some(group) = known.get(&key).and_then(|index| groups.get_mut(*index)) {
            if state.view == ViewKind::Hosts {
                describe(group, host);
            }
            continue;
        }
        if !empty_ones {
            continue;
        }
        let stand_in = stand_in(host);
        if query.is_all() || query.matches(&stand_in, &facts(state, query, &stand_in)) {
            let group = added.entry(key.clone()).or_insert_with(|| empty(key));
            group.hosts += 1;
            if state.view == ViewKind::Hosts {
                describe(group, host);
            }
        }
    }
    groups.extend(added.into_values());
}

fn describe(group: &mut Group, host: &Host) {
    group.region = Some(Arc::clone(&host.region));
    group.address = Some(host.address);
}

/// An instance with nothing but the host's names, for queries that ask for nothing else.
fn stand_in(host: &Host) -> Instance {
    Instance {
        identity: Identity {
            service: Arc::from(""),
            version: Arc::from(""),
            region: Arc::clone(&host.region),
            host: Arc::clone(&host.name),
            id: InstanceId::nil(),
        },
        address: Some(host.address),
        admin_address: None,
        registered: false,
        state: InstanceState::Ready,
        reason: None,
        process: None,
        started: host.started,
        deployment: None,
        weight: 0,
        lease: 0,
        tags: Vec::new(),
        mod_revision: host.mod_revision,
    }
}
