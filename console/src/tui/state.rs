//! Everything that the console knows: plain data.
//!
//! Invariants: no handle, no channel, no clock (the moment is set by events); rows, cursors and
//! plans hold identities, never indices into the cluster; only [`update`](super::update::update)
//! changes it, and nothing of it is computed while drawing.

pub mod filter;
pub mod layer;
pub mod line;
pub mod measure;
pub mod row;
pub mod table;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use skynet::query::Listing;
use skynet::registry::link::Link;
use skynet::registry::snapshot::Snapshot;
use tokio::time::Instant;

use super::effect::Ticket;
use super::key::Key;
use crate::traffic::TrafficCounters;
use filter::Filter;
use layer::Layer;
use measure::Measures;
use row::Rows;
use table::Table;

/// How many messages are shown at once; older ones make room.
const MAX_TOASTS: usize = 5;

/// The moment in which the state is: monotonic for what is measured, wall time for what is dated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// For everything that is measured.
    pub mono: Instant,
    /// For ages of what the cluster dates.
    pub wall: Timestamp,
}

impl Moment {
    /// The present; only whoever makes events may ask.
    pub fn present() -> Self {
        Self {
            mono: Instant::now(),
            wall: Timestamp::now(),
        }
    }
}

/// A view of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ViewKind {
    /// One row for each region.
    Regions,
    /// One row for each host.
    Hosts,
    /// One row for each service.
    Services,
    /// One row for each version of a service.
    Versions,
    /// One row for each instance.
    Instances,
}

impl ViewKind {
    /// Every view, in the order of its keys.
    pub const ALL: [Self; 5] = [
        Self::Regions,
        Self::Hosts,
        Self::Services,
        Self::Versions,
        Self::Instances,
    ];

    /// The view's name on its tab.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Regions => "Regions",
            Self::Hosts => "Hosts",
            Self::Services => "Services",
            Self::Versions => "Versions",
            Self::Instances => "Instances",
        }
    }

    /// The view of a listing; the topology has none.
    pub const fn of(listing: Listing) -> Option<Self> {
        match listing {
            Listing::Regions => Some(Self::Regions),
            Listing::Hosts => Some(Self::Hosts),
            Listing::Services => Some(Self::Services),
            Listing::Versions => Some(Self::Versions),
            Listing::Instances => Some(Self::Instances),
            Listing::Topology => None,
        }
    }

    /// The listing that shows the same.
    pub const fn listing(self) -> Listing {
        match self {
            Self::Regions => Listing::Regions,
            Self::Hosts => Listing::Hosts,
            Self::Services => Listing::Services,
            Self::Versions => Listing::Versions,
            Self::Instances => Listing::Instances,
        }
    }
}

/// How grave a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It went well, or is only said.
    Good,
    /// Something was refused or needs attention.
    Warning,
    /// Something failed.
    Failure,
}

impl Tone {
    const fn shown_for(self) -> Duration {
        match self {
            Self::Good => Duration::from_secs(5),
            Self::Warning => Duration::from_secs(8),
            Self::Failure => Duration::from_secs(20),
        }
    }
}

/// A passing message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toast {
    /// What it says.
    pub text: String,
    /// How grave it is.
    pub tone: Tone,
    /// When it goes.
    pub until: Instant,
}

/// A change or deployment that is being carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Whose answer is awaited.
    pub ticket: Ticket,
    /// What it is, for people: `stop 3`.
    pub what: String,
    /// The word for having done it: `stopped`.
    pub done: &'static str,
}

/// How many rows each view has without a filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Regions with an instance or a host.
    pub regions: usize,
    /// Hosts, registered or named by an instance.
    pub hosts: usize,
    /// Services.
    pub services: usize,
    /// Versions of services.
    pub versions: usize,
    /// Instances and children.
    pub instances: usize,
}

impl Totals {
    /// The total of one view.
    pub const fn of(&self, view: ViewKind) -> usize {
        match view {
            ViewKind::Regions => self.regions,
            ViewKind::Hosts => self.hosts,
            ViewKind::Services => self.services,
            ViewKind::Versions => self.versions,
            ViewKind::Instances => self.instances,
        }
    }
}

/// Where the console looks and what it is called there: said on the screen, never used to connect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The registry's endpoints.
    pub endpoints: Vec<String>,
    /// The prefix of its keys.
    pub prefix: String,
    /// A name that stands instead of both at the top, such as `demo`.
    pub label: Option<String>,
}

/// Everything that the console knows.
#[derive(Debug, Clone)]
pub struct State {
    /// The moment of the last event.
    pub now: Moment,
    /// The terminal's columns and rows.
    pub size: (u16, u16),
    /// When the console was opened.
    pub opened: Instant,
    /// Whether the terminal's window is looked at, as far as the terminal says so.
    pub focused: bool,
    /// Where the console looks.
    pub place: Place,
    /// The cluster.
    pub snapshot: Arc<Snapshot>,
    /// The link to the registry.
    pub link: Link,
    /// The cluster as it was when the link was lost.
    pub before_loss: Option<(Instant, Arc<Snapshot>)>,
    /// Measurements.
    pub measures: Measures,
    /// The view that is shown.
    pub view: ViewKind,
    /// Cursor and order of each view.
    pub tables: [Table; 5],
    /// What selects the rows.
    pub filter: Filter,
    /// The rows of the view that is shown.
    pub rows: Rows,
    /// How many rows each view would have without a filter.
    pub totals: Totals,
    /// Whether the pane of details is shown.
    pub preview: bool,
    /// What lies over the table, the top last.
    pub layers: Vec<Layer>,
    /// Passing messages, the newest last.
    pub toasts: VecDeque<Toast>,
    /// The keys of an unfinished command.
    pub pending: Vec<Key>,
    /// Until when a second `q` ends the console.
    pub quit_until: Option<Instant>,
    /// Until when a second Ctrl-c ends the console.
    pub interrupt_until: Option<Instant>,
    /// What is being carried out.
    pub running: Vec<Running>,
    /// What the demo's traffic has counted.
    pub traffic: Option<TrafficCounters>,
    last_ticket: u64,
}

impl State {
    /// A console that has just been opened and knows nothing yet.
    pub fn new(now: Moment, place: Place) -> Self {
        Self {
            now,
            opened: now.mono,
            size: (0, 0),
            focused: true,
            place,
            snapshot: Arc::new(Snapshot::default()),
            link: Link::Connecting { since: now.mono },
            before_loss: None,
            measures: Measures::new(now.mono),
            view: ViewKind::Instances,
            tables: ViewKind::ALL.map(Table::new),
            filter: Filter::default(),
            rows: Rows::new(now.mono),
            totals: Totals::default(),
            preview: true,
            layers: Vec::new(),
            toasts: VecDeque::new(),
            pending: Vec::new(),
            quit_until: None,
            interrupt_until: None,
            running: Vec::new(),
            traffic: None,
            last_ticket: 0,
        }
    }

    /// Cursor and order of the view that is shown.
    pub fn table(&self) -> &Table {
        &self.tables[self.view as usize]
    }

    /// The same, to change.
    pub fn table_mut(&mut self) -> &mut Table {
        &mut self.tables[self.view as usize]
    }

    /// A number for the next request.
    pub fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    /// Shows a passing message.
    pub fn toast(&mut self, tone: Tone, text: impl Into<String>) {
        let text = text.into();
        // Said again, it is not shown twice.
        self.toasts.retain(|toast| toast.text != text);
        if self.toasts.len() >= MAX_TOASTS {
            self.toasts.pop_front();
        }
        self.toasts.push_back(Toast {
            text,
            tone,
            until: self.now.mono + tone.shown_for(),
        });
    }

    /// How long ago `then` was by wall time; nothing is younger than now.
    pub fn age(&self, then: Timestamp) -> Duration {
        Duration::try_from(self.now.wall.duration_since(then)).unwrap_or_default()
    }

    /// The wall time so long ago.
    pub fn wall_before(&self, age: Duration) -> Timestamp {
        let age = jiff::SignedDuration::try_from(age).unwrap_or_default();
        self.now.wall.checked_sub(age).unwrap_or(self.now.wall)
    }
}
