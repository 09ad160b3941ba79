//! The rows of a view: what they stand for, and by what they are known.
//!
//! Invariants: a row is known by its [`RowKey`], which outlives every new order of the rows.

use std::net::SocketAddr;
use std::sync::Arc;

use skynet::instance::{Instance, InstanceId};
use skynet::query::explain::Blame;
use tokio::time::Instant;

/// What a row is, whatever its place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RowKey {
    /// An instance.
    Instance(InstanceId),
    /// A region by name.
    Region(Arc<str>),
    /// A host by name.
    Host(Arc<str>),
    /// A service by name.
    Service(Arc<str>),
    /// A service and its version.
    Version(Arc<str>, Arc<str>),
}

/// One row.
#[derive(Debug, Clone)]
pub enum Row {
    /// An instance as it was when the rows were last put in order.
    Instance(Arc<Instance>),
    /// Several instances under one name.
    Group(Arc<Group>),
}

impl Row {
    /// By what the row is known.
    pub fn key(&self) -> RowKey {
        match self {
            Self::Instance(instance) => RowKey::Instance(instance.id()),
            Self::Group(group) => group.key.clone(),
        }
    }

    /// Whether the row is known by `key`.
    pub fn is(&self, key: &RowKey) -> bool {
        match (self, key) {
            (Self::Instance(instance), RowKey::Instance(id)) => instance.id() == *id,
            (Self::Group(group), key) => group.key == *key,
            (Self::Instance(_), _) => false,
        }
    }
}

/// What is known of the instances under one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// By what the row is known.
    pub key: RowKey,
    /// The region, of a host.
    pub region: Option<Arc<str>>,
    /// Where the daemon answers, of a host that has one.
    pub address: Option<SocketAddr>,
    /// How many instances and children.
    pub total: usize,
    /// How many of them are ready.
    pub ready: usize,
    /// How many of them clients may choose.
    pub registered: usize,
    /// How many hosts they are on.
    pub hosts: usize,
    /// Of how many measurements are known.
    pub measured: usize,
    /// Connections of those.
    pub clients: i64,
    /// Requests served by those.
    pub requests: i64,
    /// Requests per second, when one of them has a rate.
    pub rps: Option<f64>,
    /// Their mean response time, weighted by requests, in microseconds.
    pub avg_us: Option<i64>,
    /// The slowest one's mean response time, in microseconds.
    pub worst_us: Option<i64>,
    /// Their versions, ordered; of a region or host their services.
    pub names: Vec<Arc<str>>,
}

impl Group {
    /// The name on the row.
    pub fn name(&self) -> &Arc<str> {
        match &self.key {
            RowKey::Region(name)
            | RowKey::Host(name)
            | RowKey::Service(name)
            | RowKey::Version(name, _) => name,
            // No group stands for one instance.
            RowKey::Instance(_) => self.names.first().unwrap_or(&NO_NAME),
        }
    }
}

static NO_NAME: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| Arc::from(""));

/// Why a row is still on the screen although the query no longer selects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lingering {
    /// It is no longer in the cluster.
    Gone,
    /// It is there, but no longer matches.
    Unmatched,
}

/// A row that stays on the screen for a while.
#[derive(Debug, Clone)]
pub struct Ghost {
    /// The row as it was.
    pub row: Row,
    /// Why it is only a ghost.
    pub why: Lingering,
    /// Since when.
    pub since: Instant,
}

/// The rows of the view that is shown, in order.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The rows, ghosts among them.
    pub list: Vec<Row>,
    /// What lingers.
    pub ghosts: Vec<Ghost>,
    /// How many instances match the filter.
    pub matched: usize,
    /// Which term leaves nothing, when nothing is left.
    pub blame: Option<Blame>,
    /// When the rows were last put in order.
    pub ordered: Instant,
    /// The data went on since then.
    pub pending: bool,
}

impl Rows {
    /// No rows.
    pub fn new(now: Instant) -> Self {
        Self {
            list: Vec::new(),
            ghosts: Vec::new(),
            matched: 0,
            blame: None,
            ordered: now,
            pending: false,
        }
    }

    /// Why the row with this key lingers, if it does.
    pub fn lingering(&self, key: &RowKey) -> Option<Lingering> {
        self.ghosts
            .iter()
            .find(|ghost| ghost.row.is(key))
            .map(|ghost| ghost.why)
    }

    /// How many rows there are apart from ghosts.
    pub fn real(&self) -> usize {
        self.list.len().saturating_sub(self.ghosts.len())
    }
}
