//! The rows of group views: regions, hosts, services, versions, and the topology.
//!
//! Invariants: rows are ordered by region, host, service and version (in the order of versions);
//! totals cover exactly the instances that were added; a mean is weighted by requests; what was not
//! measured is `None` and not 0. Hosts and regions without instances show only while the query asks
//! for nothing but hosts and regions.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::instance::{Host, Instance, State};
use crate::stats::InstanceStats;

use super::super::schema::Listing;
use super::super::{Facts, Query, version};
use super::Known;

/// What a group has in common; the identity of its row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct GroupKey {
    /// The region, for regions, hosts and the topology.
    pub region: Option<Arc<str>>,
    /// The host, for hosts and the topology.
    pub host: Option<Arc<str>>,
    /// The service, for services, versions and the topology.
    pub service: Option<Arc<str>>,
    /// The version, for versions and the topology.
    pub version: Option<Arc<str>>,
}

/// The totals of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupRow {
    /// What it has in common.
    pub key: GroupKey,
    /// The address of the host's daemon, for hosts.
    pub address: Option<IpAddr>,
    /// How many instances and children there are.
    pub total: usize,
    /// How many run, as far as is known.
    pub up: usize,
    /// How many clients may choose.
    pub registered: usize,
    /// How many are ready.
    pub ready: usize,
    /// How many regions they are in.
    pub regions: usize,
    /// How many hosts they are on.
    pub hosts: usize,
    /// How many services they are of.
    pub services: usize,
    /// Their versions, in the order of versions.
    pub versions: Vec<Arc<str>>,
    /// How many of them are measured: of those are the totals below.
    pub measured: usize,
    /// Connections that are served now.
    pub clients: Option<i64>,
    /// Requests that run now.
    pub inflight: Option<i64>,
    /// Requests served since the start.
    pub requests: Option<i64>,
    /// Requests per second.
    pub rps: Option<f64>,
    /// Mean response time in microseconds, weighted by requests; `None` when there were none.
    pub avg_us: Option<i64>,
    /// The highest mean response time of one instance, in microseconds.
    pub worst_us: Option<i64>,
}

/// Instances on their way into groups.
#[derive(Debug)]
pub struct Groups<'a> {
    listing: Listing,
    places: HashMap<[&'a str; 4], usize>,
    last: Option<([&'a str; 4], usize)>,
    rows: Vec<Group<'a>>,
}

#[derive(Debug)]
struct Group<'a> {
    row: GroupRow,
    regions: Names<'a>,
    hosts: Names<'a>,
    services: Names<'a>,
    versions: Names<'a>,
    /// Requests times mean response time.
    spent_us: i128,
}

/// Distinct names; the same one twice in a row costs a comparison only.
#[derive(Debug, Default)]
struct Names<'a> {
    last: Option<&'a Arc<str>>,
    all: HashSet<&'a Arc<str>>,
}

// === impl Known ===

impl<'a> Known<'a> {
    /// The groups of what `query` selects.
    pub fn group(&self, listing: Listing, query: &Query) -> Vec<GroupRow> {
        let mut groups = Groups::new(listing);
        self.each_match(query, |instance| {
            let id = instance.id();
            let rps = self.rps.and_then(|rps| rps.get(&id).copied());
            groups.add(instance, self.stats.get(&id), rps);
        });
        self.add_bare_hosts(query, &mut groups);
        groups.rows()
    }

    /// Adds the hosts that `query` selects, when it asks for nothing but hosts and regions.
    pub fn add_bare_hosts(&self, query: &Query, groups: &mut Groups<'a>) {
        if !query.hosts_and_regions_only() {
            return;
        }
        for host in self.snapshot.hosts() {
            let facts = Facts {
                host_address: Some(host.address.ip()),
                ..Facts::at(self.now)
            };
            if query.is_all() || query.matches(&bare(host), &facts) {
                groups.add_host(host);
            }
        }
    }
}

/// A host as a query for hosts and regions sees it.
fn bare(host: &Host) -> Instance {
    Instance {
        identity: crate::instance::Identity {
            service: Arc::from(""),
            version: Arc::from(""),
            region: Arc::clone(&host.region),
            host: Arc::clone(&host.name),
            id: crate::instance::InstanceId::nil(),
        },
        address: None,
        admin_address: None,
        registered: false,
        state: State::Ready,
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

// === impl Groups ===

impl<'a> Groups<'a> {
    /// No rows yet. Instances each form a group of their service, version, region and host.
    pub fn new(listing: Listing) -> Self {
        Self {
            listing,
            places: HashMap::new(),
            last: None,
            rows: Vec::new(),
        }
    }

    /// Adds one instance to its group.
    pub fn add(
        &mut self,
        instance: &'a Arc<Instance>,
        stats: Option<&InstanceStats>,
        rps: Option<f64>,
    ) {
        let names = &instance.identity;
        let place = self.place([&names.region, &names.host, &names.service, &names.version]);
        self.rows[place].add(instance, stats, rps);
    }

    /// Adds a host, whether or not it has instances; other listings than hosts and regions ignore it.
    pub fn add_host(&mut self, host: &'a Host) {
        if !matches!(self.listing, Listing::Hosts | Listing::Regions) {
            return;
        }
        let empty: &'static Arc<str> = empty_name();
        let place = self.place([&host.region, &host.name, empty, empty]);
        let group = &mut self.rows[place];
        group.hosts.insert(&host.name, false);
        group.regions.insert(&host.region, false);
        if self.listing == Listing::Hosts {
            group.row.address = Some(host.address.ip());
        }
    }

    /// The group of an instance with these names: region, host, service, version.
    fn place(&mut self, names: [&'a Arc<str>; 4]) -> usize {
        let [region, host, service, version] = match self.listing {
            Listing::Regions => [true, false, false, false],
            Listing::Hosts => [true, true, false, false],
            Listing::Services => [false, false, true, false],
            Listing::Versions => [false, false, true, true],
            Listing::Instances | Listing::Topology => [true, true, true, true],
        };
        let kept = [region, host, service, version];
        let mut key = [""; 4];
        for ((part, name), kept) in key.iter_mut().zip(names).zip(kept) {
            if kept {
                *part = name;
            }
        }
        // Neighbors are often of one group, for snapshots are ordered by service.
        if let Some((last, place)) = self.last
            && last == key
        {
            return place;
        }
        let groups = &mut self.rows;
        let place = *self.places.entry(key).or_insert_with(|| {
            let named = |position: usize| kept[position].then(|| Arc::clone(names[position]));
            groups.push(Group::new(GroupKey {
                region: named(0),
                host: named(1),
                service: named(2),
                version: named(3),
            }));
            groups.len() - 1
        });
        self.last = Some((key, place));
        place
    }

    /// The rows, in order.
    pub fn rows(self) -> Vec<GroupRow> {
        let mut rows: Vec<GroupRow> = self.rows.into_iter().map(Group::finish).collect();
        rows.sort_by(|left, right| left.key.cmp(&right.key));
        rows
    }
}

/// A name for what has none.
fn empty_name() -> &'static Arc<str> {
    static EMPTY: std::sync::OnceLock<Arc<str>> = std::sync::OnceLock::new();
    EMPTY.get_or_init(|| Arc::from(""))
}

// === impl Group ===

impl<'a> Group<'a> {
    fn new(key: GroupKey) -> Self {
        Self {
            row: GroupRow {
                key,
                address: None,
                total: 0,
                up: 0,
                registered: 0,
                ready: 0,
                regions: 0,
                hosts: 0,
                services: 0,
                versions: Vec::new(),
                measured: 0,
                clients: None,
                inflight: None,
                requests: None,
                rps: None,
                avg_us: None,
                worst_us: None,
            },
            regions: Names::default(),
            hosts: Names::default(),
            services: Names::default(),
            versions: Names::default(),
            spent_us: 0,
        }
    }

    fn add(&mut self, instance: &'a Instance, stats: Option<&InstanceStats>, rps: Option<f64>) {
        let row = &mut self.row;
        let down = instance.state.is_child_only()
            || matches!(instance.state, State::Dead | State::Gone | State::Suspect);
        row.total += 1;
        row.up += usize::from(!down);
        row.registered += usize::from(instance.registered && !down);
        row.ready += usize::from(instance.state == State::Ready);
        // What the whole group has in common is counted once.
        let names = &instance.identity;
        self.regions.insert(&names.region, row.key.region.is_some());
        self.hosts.insert(&names.host, row.key.host.is_some());
        self.services
            .insert(&names.service, row.key.service.is_some());
        self.versions
            .insert(&names.version, row.key.version.is_some());
        if let Some(rps) = rps {
            row.rps = Some(row.rps.unwrap_or(0.0) + rps);
        }
        if let Some(stats) = stats {
            row.measured += 1;
            row.clients = Some(row.clients.unwrap_or(0).saturating_add(stats.clients));
            row.inflight = Some(row.inflight.unwrap_or(0).saturating_add(stats.inflight));
            row.requests = Some(row.requests.unwrap_or(0).saturating_add(stats.requests));
            if stats.requests > 0 {
                self.spent_us += i128::from(stats.requests) * i128::from(stats.avg_us);
                row.worst_us = row.worst_us.max(Some(stats.avg_us));
            }
        }
    }

    fn finish(self) -> GroupRow {
        let mut row = self.row;
        row.regions = self.regions.all.len();
        row.hosts = self.hosts.all.len();
        row.services = self.services.all.len();
        row.versions = self.versions.all.into_iter().cloned().collect();
        row.versions
            .sort_by(|left, right| in_version_order(left, right));
        if let Some(requests) = row.requests.filter(|requests| *requests > 0) {
            row.avg_us = i64::try_from(self.spent_us / i128::from(requests)).ok();
        }
        row
    }
}

impl<'a> Names<'a> {
    fn insert(&mut self, name: &'a Arc<str>, is_common: bool) {
        let is_known = |last: &'a Arc<str>| is_common || Arc::ptr_eq(last, name) || last == name;
        if !self.last.is_some_and(is_known) {
            self.all.insert(name);
            self.last = Some(name);
        }
    }
}

fn in_version_order(left: &str, right: &str) -> Ordering {
    version::compare(left, right).then_with(|| left.cmp(right))
}

// === impl GroupKey ===

impl Ord for GroupKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let names = |key: &Self| [key.region.clone(), key.host.clone(), key.service.clone()];
        let version = |key: &Self| key.version.clone().unwrap_or_else(|| Arc::from(""));
        names(self)
            .cmp(&names(other))
            .then_with(|| in_version_order(&version(self), &version(other)))
            .then_with(|| self.version.cmp(&other.version))
    }
}

impl PartialOrd for GroupKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.region, &self.host, &self.service, &self.version];
        for (position, part) in parts.into_iter().flatten().enumerate() {
            if position > 0 {
                formatter.write_str("/")?;
            }
            formatter.write_str(part)?;
        }
        Ok(())
    }
}

impl GroupKey {
    /// The query that selects this group: what drilling into it adds.
    pub fn query(&self) -> Query {
        use super::super::schema::Field;
        let parts = [
            (Field::Region, &self.region),
            (Field::Host, &self.host),
            (Field::Service, &self.service),
            (Field::Version, &self.version),
        ];
        parts
            .into_iter()
            .filter_map(|(field, name)| Some(Query::exact(field, &[name.as_deref()?])))
            .fold(Query::all(), Query::and)
    }
}
